// Command licenses writes the licence report of the shipped programs: every
// module whose packages are linked into one of them on any platform that is
// released, with its version, its licences and their full text. The licences
// ask for exactly that where a program is handed on.
//
//	go -C test/supply/licenses run . -root ../../..          # write the report
//	go -C test/supply/licenses run . -root ../../.. -list    # one line for each module
//
// A module without a licence, with a text that is not recognised or with a
// licence that is not on the list of allowed.go is an error, and nothing is
// written. The program reads the module cache and decides about form alone;
// what a licence means for somebody's use of the programs it does not say.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
)

// reportName is the report's place in the repository, and its name in every
// archive and image.
const reportName = "THIRD_PARTY_LICENSES.txt"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("licenses", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", ".", "the repository's `folder`")
	list := flags.Bool("list", false, "print the modules with their licences and write nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	linked, err := linkedModules(ctx, *root, shipped)
	if err != nil {
		return err
	}
	var problems []error
	for i := range linked {
		if err := linked[i].read(); err != nil {
			problems = append(problems, err)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	if *list {
		return writeList(stdout, linked)
	}
	var report bytes.Buffer
	writeReport(&report, linked)
	if err := os.WriteFile(filepath.Join(*root, reportName), report.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the licence report: %w", err)
	}
	return nil
}
