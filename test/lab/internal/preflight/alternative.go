package preflight

// Alternative is what to do where the lab cannot run; the end of every
// sentence that says so.
const Alternative = "any cluster you have will do instead: name its context, as in `make demo CONTEXT=name` or `kubectl grpclb --context name ...`"
