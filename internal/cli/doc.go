// Package cli is the kubectl plugin: one file for each subcommand, in the shape Flags -> Options -> Run(ctx).
//
// # Output rules
//
//   - Standard output carries the answer and nothing else; standard error carries progress, warnings and errors.
//   - Messages start in lower case and name the object; an error is one sentence, followed by what to do now.
//   - Colour and drawing characters appear only on a terminal that can show them; NO_COLOR, TERM=dumb and --color decide.
//   - Whatever came from a cluster is escaped before it reaches a terminal.
//   - The exit code says what happened; see [Code].
package cli
