"""Remedies that no row follows, and why none can."""

_ACCOUNT = "takes an account on the hub, and the hub itself"
_KILLED = "takes processes that are killed, and seconds: test_many.py does so, and goes on with the same call"
_NONE = "says what is so, not what to do"
_SPLIT = (
    "{} as asked for has its first answer at position {} of {}, and the network's stacks of layers divide "
    "them otherwise: say another size with --set task.KEY=VALUE"
)
_STOP = (
    "stop early_stop early_stopping stopping patience stop_at stopping_thresh stop_threshold threshold "
    "thresh target_accuracy stop_acc early_stop_acc stop_accuracy"
)
_WORDS = "words for a key, of which no message is made"
NOT_FOLLOWED: dict[str, str] = {
    "{}: `hf auth login`": _ACCOUNT,
    "{}: you are not logged in: `hf auth login`": _ACCOUNT,
    "its process {}; what it saved is safe: run the same command again to go on": _KILLED,
    "{}; nothing is lost: run the same command again to go on": _KILLED,
    "a worker process {} before it could train: see above": _KILLED,
    "{}; what was saved is safe: run the same command again to go on": "test_scaled.py kills one and goes on",
    "interrupted; nothing is lost: run the same command again to go on": _KILLED,
    "{}; run the same command again to go on": "test_engines.py kills a node of a cluster",
    "see {}; run the same command again to go on": _KILLED,
    "{}: run it where jobs are submitted, or try it with --engine-set cluster=local": "test_engines.py does",
    "losses in the file, or --config-file, would decide": "said where nothing failed",
    _SPLIT: "takes two tasks of as many tokens, logits and positions, of which no two are here",
    "  against right answers: train {}  test {}": _NONE,
    "evaluations are too far apart or begin too late": _NONE,
    "Test solid, train dashed.": _NONE,
    _STOP: _WORDS,
}
