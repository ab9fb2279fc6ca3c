// Package daemon is the long-running half of grpclb-refresher: `sidecar` serves
// targets until it is told to stop, `check` reads a file and says what it means.
//
//	code := daemon.Sidecar(ctx, args, daemon.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
//
// It refuses to know about calls and pods, which are package sidecar's, and to
// answer HTTP questions, which package admin does. What it does is what surrounds
// them: the command line, the file and its changes, signals, ports of its own, and
// the log.
//
// # Output
//
// Standard output has answers: help, and what `check` found. Standard error has
// the log of `sidecar`, and one line or more when something is refused. Nobody is
// asked anything.
//
// # The file
//
// It is read every two seconds and compared by content. That sees an edit, a
// rename over it and the swap of a directory's symbolic link, which is how a
// ConfigMap changes (the file's own name never does), on every file system; a
// notification by the kernel sees some of them and needs a watch for each
// directory on the way. One small read every two seconds costs nothing that could
// be measured. SIGHUP reads it at once.
//
// A file that cannot be used changes nothing, and is told about in the log, in
// /readyz and in the metrics until a good one follows. A good one is put in force
// target by target: one with the same addresses and the same text stays, with its
// connections and all that is known of its pods, whatever else of it changed.
package daemon
