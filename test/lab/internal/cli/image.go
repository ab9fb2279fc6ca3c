package cli

import (
	"github.com/spf13/cobra"

	"github.com/grpclb/kubectl-grpclb/internal/release/image"
)

// imageFlags mirror the command line of `image`.
type imageFlags struct {
	name       string
	entrypoint []string
	cmd        []string
	user       string
	env        []string
	arch       string
	out        string
}

// spec turns flags and arguments into the image to build.
func (f imageFlags) spec(args []string) (image.Spec, error) {
	s := image.Spec{Name: f.name, Entrypoint: f.entrypoint, Cmd: f.cmd, User: f.user, Env: f.env, Arch: f.arch}
	for _, arg := range args {
		file, err := image.ParseFile(arg)
		if err != nil {
			return s, err
		}
		if file.Source != "" {
			file.Source = resolve(file.Source)
		}
		s.Files = append(s.Files, file)
	}
	return s, nil
}

func newImage() *cobra.Command {
	var f imageFlags
	cmd := &cobra.Command{
		Use:   "image --name NAME:TAG --entrypoint /PROGRAM -o OUT.tar HOST=PATH...",
		Short: "Build an OCI image archive from static binaries (any system, no root)",
		Example: `  CGO_ENABLED=0 GOOS=linux go build -o bin/ ./examples/square/...
  go -C test/lab run . image --name grpclb.dev/examples:dev --entrypoint /square-server --user 65532:65532 \
    -o out.tar bin/square-server=/square-server link:square-server=/server`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.spec(args)
			if err != nil {
				return err
			}
			return s.Write(resolve(f.out))
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.name, "name", "", "the image's name with a tag")
	fl.StringSliceVar(&f.entrypoint, "entrypoint", nil, "what it runs: a path in the image, then arguments (comma-separated)")
	fl.StringSliceVar(&f.cmd, "cmd", nil, "default arguments, which a pod may replace (comma-separated)")
	fl.StringVar(&f.user, "user", "", "UID:GID it runs as; numbers, so that runAsNonRoot can be checked")
	fl.StringArrayVar(&f.env, "env", nil, "NAME=VALUE added to its environment (repeatable)")
	fl.StringVar(&f.arch, "arch", "", "GOARCH of the binaries (default this machine's)")
	fl.StringVarP(&f.out, "output", "o", "", "the archive to write")
	for _, required := range []string{"name", "entrypoint", "output"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			// Only a flag that was never defined can be refused.
			cmd.RunE = func(*cobra.Command, []string) error { return err }
		}
	}
	return cmd
}
