"""What other people's code calls the keys of a configuration: a word that is no key here, and the key that is
meant: those that the network and the task at hand have."""

from __future__ import annotations

_CALLED = {
    "seed": "random_seed rng_seed manual_seed model_seed init_seed random_state torch_seed np_seed cuda_seed "
    "global_seed weight_seed training_seed",
    "threads": "num_threads n_threads num_workers n_workers torch_threads",
    "device": "use_cuda cuda gpu n_gpu n_gpus num_gpus gpus no_cuda accelerator device_ids device_name",
    "processes": "num_processes world_size n_proc nproc nproc_per_node n_devices ddp",
    "monitor": "measures metrics track metric tracked",
    "task.name": "dataset operation op function_name fn_name operator math_operator math_op task_type "
    "operation_name func function",
    "task.p": "modulus prime mod base_p p_mod modulo n_mod field_size n_elements num_elements",
    "task.n": "n_digits num_digits digits operand_length operand_digits",
    "task.noise": "label_noise noise_level noise_rate noise_frac noise_fraction corruption corrupted "
    "label_corruption",
    "training.steps": "epochs num_epochs n_epochs max_epochs epoch steps_total max_steps num_steps n_steps "
    "step iterations iters max_iters n_iters num_iterations updates train_steps training_steps total_steps "
    "num_training_steps num_train_epochs train_epochs nb_epochs n_iterations num_iters max_iterations "
    "num_updates n_updates optimization_steps optim_steps max_optim_steps total_iters budget",
    "training.lr": "learning_rate learningrate step_size base_lr max_lr alpha_lr initial_lr init_lr peak_lr "
    "eta",
    "training.weight_decay": "wd weightdecay l2 l2_reg l2_lambda adam_wd weight_decay_rate "
    "weight_decay_coeff decay_weight reg regularization regularisation l2_coef lambda lam lamb",
    "training.batch_size": "batch bs batchsize minibatch minibatch_size train_batch_size n_batch "
    "per_device_train_batch_size micro_batch_size batch_size_train train_bs train_batch mini_batch_size",
    "training.fraction": "train_fraction training_fraction frac_train train_frac frac train_ratio "
    "training_ratio split_ratio train_split train_size data_fraction train_pct pct_train train_perc "
    "percent_train train_percentage train_data_pct train_data_fraction train_data_frac "
    "training_data_fraction training_frac split_frac test_fraction test_frac test_size test_split "
    "test_ratio val_fraction val_frac val_size val_split val_ratio validation_split",
    "training.split_seed": "data_seed split_random_state shuffle_seed dataset_seed train_test_split_seed",
    "training.optimizer": "optimiser optim opt optimizer_name optimizer_type optimizer_class",
    "training.betas": "beta beta1 beta2 adam_beta1 adam_beta2 adam_betas momentum mu adam_betas1 adam_betas2",
    "training.eps": "epsilon adam_eps adam_epsilon",
    "training.decay": "schedule scheduler lr_schedule lr_scheduler lr_decay lr_scheduler_type "
    "learning_rate_schedule anneal annealing gamma lr_gamma lr_decay_rate t_max t_0 t_mult eta_min min_lr "
    "lr_min final_lr end_lr end_factor milestones lr_decay_steps lr_decay_iters decay_steps decay_iters "
    "decay_rate lr_scheduler_kwargs scheduler_kwargs scheduler_type lr_lambda lr_policy lr_step_size cosine "
    "cosine_decay cosine_annealing use_scheduler",
    "training.warmup": "warm_up warmup_steps warmup_iters warmup_epochs num_warmup_steps n_warmup lr_warmup "
    "warmup_ratio warmup_proportion warmup_updates warmup_length lr_warmup_steps n_warmup_steps pct_start "
    "start_factor linear_warmup",
    "training.clip": "grad_clip clip_grad clip_norm max_norm max_grad_norm grad_clip_norm clip_grad_norm "
    "gradient_clip gradient_clipping gradient_clip_val clip_value grad_norm_clip max_norm_clip "
    "gradient_clip_norm",
    "training.evaluate_every": "eval_every eval_interval eval_steps test_every log_every log_interval "
    "logging_steps evaluate_interval eval_freq eval_period eval_frequency test_freq test_interval log_freq "
    "log_steps val_every val_interval val_check_interval validate_every print_every",
    "training.stop_when": "stop early_stop early_stopping stopping patience stop_at stopping_thresh "
    "stop_threshold threshold thresh target_accuracy stop_acc early_stop_acc stop_accuracy",
    "training.accumulate": "gradient_accumulation_steps gradient_accumulation grad_accum accumulation_steps "
    "accumulate_grad_batches accum_steps grad_accumulation gradient_checkpointing micro_batches",
    "training.label_smoothing": "smoothing label_smooth smoothing_factor label_smoothing_factor",
    "training.dtype": "precision data_type torch_dtype fp16 bf16 tf32 amp use_amp mixed_precision autocast "
    "half",
    "training.loss": "loss_fn loss_function criterion objective loss_type loss_name loss_func stable_max",
    "training.temperature": "temp tau softmax_temperature logit_temperature",
    "training.grokfast": "grok_fast gradfilter gradfilter_ema gradfilter_ma grokfast_ema grokfast_ma filter",
    "training.grokfast_alpha": "ema_alpha filter_alpha",
    "training.grokfast_lamb": "lamb lambd filter_lamb grokfast_lambda",
    "training.grokfast_window": "window filter_window grokfast_window_size",
    "training.orthogonal_gradient": "orthograd ortho_grad orthogonal_gradients orthogonalize orthogonalise "
    "perp_grad",
    "training.norm_clamp": "clamp_norm weight_norm constant_norm fixed_norm norm_constraint",
    "snapshots.every": "save_every save_steps save_interval snapshot_every checkpoint_every "
    "checkpoint_interval ckpt_every ckpt_interval save_models save_freq save_frequency save_period "
    "checkpoint_freq checkpoint_frequency ckpt_freq frequency freq interval checkpoints",
    "snapshots.log": "log_spaced log_schedule num_checkpoints n_checkpoints num_snapshots n_snapshots count",
    "snapshots.at": "checkpoint_steps save_at step_list",
    "snapshots.events": "triggers save_when",
    "model.kind": "model_type architecture arch network type model_class model_name arch_type",
    "model.d_model": "hidden_dim hidden_size d_hidden n_hidden width dim model_dim embed_dim embedding_dim "
    "embedding_size emb_dim n_embd n_embed d_embed d_emb dim_model embed_size emb_size embedding_dimension "
    "d_embedding ninp residual_dim d_residual d_resid hid_dim model_size",
    "model.d_mlp": "d_ff dff dim_feedforward ffn_dim ffn_size mlp_dim mlp_size mlp_width intermediate_size "
    "n_inner n_neurons hidden_dim hidden_size d_hidden n_hidden width d_ffn ffn_hidden ffn_hidden_size "
    "ff_dim feedforward_dim feedforward_size mlp_hidden mlp_hidden_dim mlp_hidden_size inner_dim "
    "hidden_units hidden_sizes n_hid nhid num_hidden num_neurons mlp_ratio ffn_mult ff_mult mlp_expansion "
    "expansion expansion_factor widening_factor hid_dim",
    "model.n_layers": "num_layers n_layer layers depth num_hidden_layers n_blocks num_blocks nlayers nlayer "
    "hidden_layers n_hidden_layers num_hidden num_encoder_layers num_decoder_layers num_transformer_layers "
    "transformer_layers",
    "model.n_heads": "num_heads n_head heads nhead num_attention_heads nheads num_head attention_heads "
    "n_attention_heads num_attn_heads n_attn_heads attn_heads",
    "model.d_head": "head_dim dim_head head_size d_key d_keys d_k d_v d_qk dim_k dim_v head_width "
    "attention_head_size kv_channels",
    "model.act_fn": "activation act activation_function activation_fn hidden_act act_func nonlinearity "
    "nonlin activation_type act_type mlp_act hidden_activation",
    "model.normalization": "normalization_type normalisation norm norm_type layer_norm layernorm use_ln ln "
    "layernorm_type layer_norm_type ln_type use_layernorm use_layer_norm use_norm",
    "model.attention_dir": "causal is_causal attn_dir attention_direction masked",
    "model.train_biases": "bias biases use_bias",
    "model.biases": "bias use_bias train_biases",
    "model.init": "init_mode initialization initialisation initializer weight_init init_weights "
    "weight_initialization init_type init_method init_fn initializer_type",
    "model.init_scale": "initializer_range init_std init_factor weight_scale weight_multiplier "
    "initialization_scale weight_init_scale init_gain gain init_multiplier",
    "model.tied": "tie tie_embeddings tied_embeddings tie_weights tied_weights tie_word_embeddings "
    "weight_tying share_embeddings",
    "model.dropout": "drop dropout_rate dropout_p p_dropout dropout_prob attn_dropout resid_dropout "
    "embd_dropout attn_pdrop resid_pdrop embd_pdrop hidden_dropout_prob residual_dropout attention_dropout "
    "hidden_dropout mlp_dropout embed_dropout embedding_dropout ff_dropout attention_probs_dropout_prob "
    "dropout_probability",
    "model.d_vocab_out": "n_classes num_classes num_labels d_out output_dim out_dim num_class nclass n_class "
    "n_outputs num_outputs output_size out_features vocab_out d_output",
}
"""The keys, with what they are called elsewhere."""
_BESIDE = {
    "training.steps": "it counts optimiser updates: with a full batch a step is an epoch",
    "training.betas": "a pair, of which sgd and muon take the first as their momentum",
    "training.stop_when": "such as 'test_accuracy >= 0.999 for 200'",
    "training.decay": "none, linear or cosine, after training.warmup; either ends in 0 at the last step",
    "training.warmup": "a number of updates",
    "training.fraction": "the share that is trained on; all others are tested on",
    "training.clip": "the global norm of the gradient",
    "training.evaluate_every": "a number of updates; all examples are evaluated",
    "task.noise": "a section such as {'kind': 'uniform', 'share': 0.35}",
    "model.d_mlp": "the number of neurons, such as 4 times model.d_model",
    "snapshots.log": "so many snapshots, evenly spread on a log axis",
    "snapshots.every": "a number of updates",
    "device": "cpu, cuda, mps or auto",
    "training.dtype": "float32, float64 or bfloat16",
    "training.loss": "cross_entropy, log_softmax, stablemax, mse or squared_distance",
    "training.grokfast": "ema or ma",
    "model.init_scale": "every initial weight is multiplied by it",
    "model.normalization": "none, LN, LNPre, RMS or RMSPre",
    "model.attention_dir": "causal or bidirectional",
    "task.name": "`grokinterp list tasks` has the names",
}
"""What a value of a key is, where its name does not say it."""
_NO_KEYS = {
    "model.d_mlp=0 leaves the MLPs out": "attn_only use_mlp no_mlp attention_only",
    "it comes from the task, by how its examples are written": "n_ctx d_vocab d_vocab_in vocab vocab_size "
    "n_vocab num_tokens n_tokens ntoken ntokens num_embeddings seq_len seq_length sequence_length "
    "context_length context_size ctx_len ctx_size block_size max_len max_seq_len max_seq_length "
    "max_sequence_length max_length n_positions max_position_embeddings input_dim input_size in_features "
    "d_in in_dim pad_token_id bos_token_id eos_token_id tokenizer tokenizer_name default_prepend_bos",
    "no kind of network has it here": "n_key_value_heads num_key_value_heads n_kv_heads window_size "
    "use_local_attn gated_mlp num_experts parallel_attn_mlp rotary_dim rotary_pct rope_theta use_rope "
    "use_rotary alibi positional_embedding_type position_embedding_type pos_emb_type use_attn_scale "
    "attn_scale scale_attn_by_inverse_layer_idx",
    "muon has it, and sgd has not": "nesterov use_nesterov",
    "no optimiser has it here": "dampening amsgrad maximize fused foreach capturable differentiable",
    "it is 1e-5": "layer_norm_eps layernorm_eps layer_norm_epsilon rms_norm_eps norm_eps ln_eps",
    "a transformer is normalised before each part, and one of model.kind='encoder' behind it": "norm_first "
    "pre_norm prenorm post_norm postnorm",
    "every epoch is a fresh permutation of the training set, its last batch the remainder": "shuffle "
    "drop_last",
    "all examples are evaluated, however many are computed at a time": "eval_batch_size test_batch_size "
    "val_batch_size per_device_eval_batch_size",
    "the directory of a run is no key: --out, or gi.train(config, out=...), names it": "out out_dir "
    "output_dir save_dir save_path save_folder checkpoint_dir checkpoint_path log_dir run_dir run_name "
    "exp_name experiment_name",
    "a run goes on when the same command, or call of gi.train, is given again": "resume resume_from "
    "resume_from_checkpoint ckpt_path",
    "loggers are no key: --log wandb, or gi.train(config, out=..., log='wandb')": "wandb use_wandb "
    "wandb_project project entity logger loggers report_to tensorboard",
    "several seeds are no key: --seeds 0..3, or gi.train_many(config, out=..., seeds='0..3')": "seeds "
    "n_seeds num_seeds",
}
"""What to do about words for which no one key stands, and these words."""
_OTHERWISE = {word: text for text, words in _NO_KEYS.items() for word in words.split()}
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
        keys = sorted(key for key in known if key.rpartition(".")[2] == word)
    if not keys:
        return None
    beside = [f"({_BESIDE[key]})" for key in keys if key in _BESIDE]
    return " ".join([f"; did you mean {' or '.join(map(repr, keys))}?", *beside])


def keys_meant(word: str) -> list[str]:
    """The keys that could be meant by a word, whatever network and task there are."""
    return _MEANT.get(word.lower().replace("-", "_"), [])
