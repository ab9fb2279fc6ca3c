// Command release does for a release what goreleaser leaves to others: it builds the image of grpclb-refresher before the plugin, so that
// its digest can be stamped into the plugin; it writes the image's archives and the bills of materials; it pushes the image.
//
//	release images  -version v1.2.3 -commit HASH -date RFC3339 -dir bin/release
//	release archive -version v1.2.3 -commit HASH -date RFC3339 -dir bin/release -arch amd64 -binary FILE -o IMAGE.tar
//	release sbom    -o DOCUMENT ARCHIVE
//	release push    -dir bin/release -tag v1.2.3 IMAGE.tar...
//
// It is called by .goreleaser.yaml, from the root of the repository. No command but push talks to anybody, and push refuses
// to push anything but the digest that was stamped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	const usage = "want one of: images, archive, sbom, push"
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet("release "+args[0], flag.ContinueOnError)
	switch args[0] {
	case "images":
		r := releaseFlags(flags)
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return images(ctx, *r, out)
	case "archive":
		r := releaseFlags(flags)
		arch := flags.String("arch", "", "GOARCH of the binary")
		binary := flags.String("binary", "", "the program that goreleaser built")
		file := flags.String("o", "", "the archive to write")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return archive(*r, *arch, *binary, *file)
	case "sbom":
		file := flags.String("o", "", "the document to write")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return writeSBOM(flags.Arg(0), *file)
	case "push":
		dir := flags.String("dir", "bin/release", "where images wrote the digest")
		tag := flags.String("tag", "", "the tag to give it beside its digest")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		ref, err := push(*dir, *tag, flags.Args(), remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
		if err == nil {
			fmt.Fprintln(out, ref)
		}
		return err
	}
	return fmt.Errorf("no command %q: %s", args[0], usage)
}

// releaseFlags are what all images of a release have in common.
func releaseFlags(flags *flag.FlagSet) *release {
	var r release
	flags.StringVar(&r.version, "version", "", "the release, with its v")
	flags.StringVar(&r.commit, "commit", "", "hash of the commit")
	flags.TextVar(&r.date, "date", r.date, "the commit's time, RFC 3339")
	flags.StringVar(&r.dir, "dir", "bin/release", "where the digest is kept between the commands")
	return &r
}
