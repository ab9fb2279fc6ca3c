// Package snapfile keeps a [diagnose.Snapshot] in a file: a diagnosis of today, replayed anywhere.
//
//	err := snapfile.SaveFile("square.snapshot.yaml", snap)
//	snap, err := snapfile.LoadFile("square.snapshot.yaml")
//	shared, err := snapfile.Redact(snap, salt)
//
// Files are YAML, readable by their owner alone. Unknown fields are ignored (a version of the schema only grows);
// another version is an error that says what to do.
//
// # What it refuses to do
//
// It reads no file beyond [MaxBytes], and it never lets a string of a redacted snapshot through because nobody thought
// of its field: what has no rule is hashed.
package snapfile
