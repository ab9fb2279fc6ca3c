package daemon

// Exit codes of Sidecar and Check.
const (
	// ExitOK: the daemon was told to stop and drained, or the file is valid.
	ExitOK = 0
	// ExitFailed: it cannot serve.
	ExitFailed = 1
	// ExitUsage: the command line is wrong.
	ExitUsage = 2
	// ExitConfig: the file is.
	ExitConfig = 3
	// ExitPlace: it must not run here.
	ExitPlace = 4
	// exitSignal and a signal's number: a second one came.
	exitSignal = 128
)

// Code is a row of the table of exit codes.
type Code struct {
	Code int
	Mean string
}

// Codes lists the exit codes, for help and documents.
func Codes() []Code {
	return []Code{
		{ExitOK, "told to stop, and drained; for `check`: the file is valid"},
		{ExitFailed, "cannot serve: an address is in use or not ours, or a target means nothing"},
		{ExitUsage, "the command line or a GRPCLB_REFRESHER_ variable is wrong"},
		{ExitConfig, "the file is missing, unreadable or not valid"},
		{ExitPlace, "refused here: the pod is in the node's network (hostNetwork)"},
		{exitSignal + 2, "a second signal came while it drained, the last one SIGINT"},
		{exitSignal + 15, "the same with SIGTERM"},
	}
}
