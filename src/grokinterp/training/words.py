"""What other people's code calls the keys of a configuration: a word that is no key here, and the key that is
meant: those that the network and the task at hand have."""

from __future__ import annotations

_CALLED = {
    "seed": "random_seed rng_seed manual_seed model_seed",
    "threads": "num_threads n_threads num_workers n_workers",
    "monitor": "measures metrics track",
    "task.name": "dataset operation op function_name",
    "task.p": "modulus prime mod base_p p_mod",
    "training.steps": "epochs num_epochs n_epochs max_epochs epoch steps_total max_steps num_steps n_steps "
    "step iterations iters max_iters n_iters num_iterations updates train_steps training_steps total_steps "
    "num_training_steps",
    "training.lr": "learning_rate learningrate step_size base_lr max_lr",
    "training.weight_decay": "wd weightdecay l2 l2_reg l2_lambda adam_wd",
    "training.batch_size": "batch bs batchsize minibatch minibatch_size train_batch_size n_batch",
    "training.fraction": "train_fraction training_fraction frac_train train_frac frac train_ratio "
    "training_ratio split_ratio train_split train_size data_fraction",
    "training.split_seed": "data_seed split_random_state",
    "training.optimizer": "optimiser optim opt optimizer_name optimizer_type",
    "training.betas": "beta beta1 beta2 adam_beta1 adam_beta2 adam_betas momentum",
    "training.eps": "epsilon adam_eps adam_epsilon",
    "training.decay": "schedule scheduler lr_schedule lr_scheduler lr_decay lr_scheduler_type "
    "learning_rate_schedule anneal annealing",
    "training.warmup": "warm_up warmup_steps warmup_iters warmup_epochs num_warmup_steps n_warmup lr_warmup",
    "training.clip": "grad_clip clip_grad clip_norm max_norm max_grad_norm grad_clip_norm clip_grad_norm "
    "gradient_clip gradient_clipping gradient_clip_val",
    "training.evaluate_every": "eval_every eval_interval eval_steps test_every log_every log_interval "
    "logging_steps evaluate_interval",
    "training.stop_when": "stop early_stop early_stopping stopping patience stop_at",
    "training.accumulate": "gradient_accumulation_steps gradient_accumulation grad_accum accumulation_steps "
    "accumulate_grad_batches",
    "training.label_smoothing": "smoothing label_smooth",
    "training.dtype": "precision data_type torch_dtype fp16 bf16",
    "training.loss": "loss_fn loss_function criterion objective",
    "snapshots.every": "save_every save_steps save_interval snapshot_every checkpoint_every "
    "checkpoint_interval ckpt_every ckpt_interval",
    "model.kind": "model_type architecture arch network type",
    "model.d_model": "hidden_dim hidden_size d_hidden n_hidden width dim model_dim embed_dim embedding_dim "
    "embedding_size emb_dim n_embd n_embed d_embed d_emb",
    "model.d_mlp": "d_ff dff dim_feedforward ffn_dim ffn_size mlp_dim mlp_size mlp_width intermediate_size "
    "n_inner n_neurons hidden_dim hidden_size d_hidden n_hidden width",
    "model.n_layers": "num_layers n_layer layers depth num_hidden_layers n_blocks num_blocks",
    "model.n_heads": "num_heads n_head heads nhead num_attention_heads",
    "model.d_head": "head_dim dim_head head_size",
    "model.act_fn": "activation act activation_function activation_fn hidden_act act_func nonlinearity",
    "model.normalization": "normalization_type normalisation norm norm_type layer_norm layernorm use_ln ln",
    "model.attention_dir": "causal is_causal attn_dir attention_direction masked",
    "model.train_biases": "bias biases use_bias",
    "model.biases": "bias use_bias train_biases",
    "model.init": "init_mode initialization initialisation initializer weight_init",
    "model.init_scale": "initializer_range init_std init_factor weight_scale weight_multiplier",
    "model.tied": "tie tie_embeddings tied_embeddings tie_weights tied_weights tie_word_embeddings "
    "weight_tying share_embeddings",
    "model.dropout": "drop dropout_rate dropout_p p_dropout dropout_prob attn_dropout resid_dropout "
    "embd_dropout attn_pdrop resid_pdrop embd_pdrop hidden_dropout_prob",
    "model.d_vocab_out": "n_classes num_classes num_labels d_out output_dim out_dim",
}
"""The keys, with what they are called elsewhere."""
_BESIDE = {
    "training.steps": "it counts optimiser updates: with a full batch a step is an epoch",
    "training.betas": "a pair, of which sgd and muon take the first as their momentum",
    "training.stop_when": "such as 'test_accuracy >= 0.999 for 200'",
    "training.decay": "none, linear or cosine, after training.warmup",
    "training.dtype": "float32, float64 or bfloat16",
    "model.init_scale": "every initial weight is multiplied by it",
    "model.normalization": "none, LN, LNPre, RMS or RMSPre",
    "model.attention_dir": "causal or bidirectional",
    "task.name": "`grokinterp list tasks` has the names",
}
"""What a value of a key is, where its name does not say it."""
_OF_THE_TASK = (
    "n_ctx d_vocab vocab_size n_vocab num_tokens n_tokens seq_len sequence_length context_length block_size "
    "max_len max_seq_len max_length n_positions max_position_embeddings input_dim d_in in_dim"
)
_OTHERWISE = {
    "attn_only": "model.d_mlp=0 leaves the MLPs out",
    "use_mlp": "model.d_mlp=0 leaves the MLPs out",
    "no_mlp": "model.d_mlp=0 leaves the MLPs out",
    **dict.fromkeys(_OF_THE_TASK.split(), "it comes from the task, by how its examples are written"),
}
"""Words for which no one key stands, with what to do."""
_MEANT: dict[str, list[str]] = {}
for _key, _words in _CALLED.items():
    for _word in _words.split():
        _MEANT.setdefault(_word, []).append(_key)


def meant(word: str, known: set[str]) -> str | None:
    """What to say of a word that is no key: which of the `known` keys is meant, or what is to be done
    instead; None where nothing is known of it."""
    word = word.lower().replace("-", "_")
    if word in _OTHERWISE:
        return f": {_OTHERWISE[word]}"
    keys = [key for key in _MEANT.get(word, ()) if key in known]
    if not keys:
        return None
    beside = [f"({_BESIDE[key]})" for key in keys if key in _BESIDE]
    return " ".join([f"; did you mean {' or '.join(map(repr, keys))}?", *beside])


def keys_meant(word: str) -> list[str]:
    """The keys that could be meant by a word, whatever network and task there are."""
    return _MEANT.get(word.lower().replace("-", "_"), [])
