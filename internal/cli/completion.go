package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
)

// binary is the plugin's file name without an extension: what kubectl looks up for `kubectl grpclb`.
const binary = "kubectl-grpclb"

// shells are those that a completion script can be written for.
var shells = []string{"bash", "zsh", "fish", "powershell"}

func (a *app) completionCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "completion install|uninstall|SHELL",
		Short: "make TAB complete Services, workloads, checks and flags",
		Long: `Makes TAB complete Services, workloads, checks and flags of ` + "`" + Name + "`" + ` and of kubectl-grpclb.

kubectl (1.26 or later) completes a plugin's arguments by an executable named ` + hookName + ` on PATH. "install" writes it;
once is enough, and it stays right when the plugin is upgraded. Completion of kubectl itself has to be on in your shell: "install" says how.

Who calls kubectl-grpclb by that name, without kubectl, loads the script of their shell instead: ` + strings.Join(shells, ", ") + `.`,
		Example: `  ` + Name + ` completion install
  source <(kubectl-grpclb completion bash)`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(Name+" completion install", "completion takes install, uninstall or one of %s", strings.Join(shells, ", "))
			}
			return usage("it takes install, uninstall, "+strings.Join(shells, ", ")+suggest(cmd, args[0]), "completion does not know %q", args[0])
		},
	}
	cmd.AddCommand(a.completionInstallCmd(), a.completionUninstallCmd())
	for _, sh := range shells {
		cmd.AddCommand(a.completionScriptCmd(sh))
	}
	return cmd
}

// loadScript says how a shell loads a completion script, for the two programs that there is one of.
func loadScript(shell, program string) string {
	switch shell {
	case "bash":
		return "source <(" + program + " completion bash)    in ~/.bashrc; it needs the package bash-completion"
	case "zsh":
		return "source <(" + program + " completion zsh)     in ~/.zshrc, below compinit"
	case "fish":
		return program + " completion fish | source       in ~/.config/fish/config.fish"
	}
	return program + " completion powershell | Out-String | Invoke-Expression    in $PROFILE"
}

func (a *app) completionScriptCmd(shell string) *cobra.Command {
	var plain bool
	cmd := &cobra.Command{
		Use:   shell,
		Short: "print the " + shell + " script for kubectl-grpclb called by that name",
		Long: fmt.Sprintf(`Prints the %s script that completes kubectl-grpclb when it is called by that name. For `+"`%s`"+` run
"%s completion install".

Load it with:
  %s`, shell, Name, Name, loadScript(shell, binary)),
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return writeScript(a.Out, shell, !plain) },
	}
	cmd.Flags().BoolVar(&plain, "no-descriptions", false, "complete without descriptions")
	return cmd
}

// writeScript writes cobra's script for a program called kubectl-grpclb. The script holds nothing of the command tree but its name: it
// asks the program.
func writeScript(w io.Writer, shell string, descriptions bool) error {
	root := &cobra.Command{Use: binary}
	var err error
	switch shell {
	case "bash":
		err = root.GenBashCompletionV2(w, descriptions)
	case "zsh":
		if descriptions {
			err = root.GenZshCompletion(w)
		} else {
			err = root.GenZshCompletionNoDesc(w)
		}
	case "fish":
		err = root.GenFishCompletion(w, descriptions)
	case "powershell":
		if descriptions {
			err = root.GenPowerShellCompletionWithDesc(w)
		} else {
			err = root.GenPowerShellCompletion(w)
		}
	}
	if err != nil {
		return fmt.Errorf("write the script: %w", err)
	}
	return nil
}

// hookFlags mirrors the command lines of completion install and uninstall.
type hookFlags struct {
	dir   string
	force bool
}

func (a *app) completionInstallCmd() *cobra.Command {
	var f hookFlags
	cmd := &cobra.Command{
		Use:   "install",
		Short: "let kubectl complete the plugin's arguments",
		Long: `Writes ` + hookName + `, by which kubectl completes the arguments of ` + "`" + Name + "`" + `: beside the plugin where PATH finds it, or, when
that folder may not be written to, into the first folder of PATH that may. A file of that name which this command did not write is left alone.`,
		Example: `  ` + Name + ` completion install
  ` + Name + ` completion install --dir ~/.local/bin`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return a.installHook(systemPath(), f) },
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "folder to write to; it should be on PATH (default: the plugin's)")
	cmd.Flags().BoolVar(&f.force, "force", false, "replace a file of that name that this command did not write")
	return cmd
}

func (a *app) completionUninstallCmd() *cobra.Command {
	var f hookFlags
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "undo completion install",
		Long:  "Removes " + hookName + " where `" + Name + " completion install` wrote it: from --dir, or from every folder of PATH.",
		Args:  noArgs,
		RunE:  func(*cobra.Command, []string) error { return a.removeHook(systemPath(), f) },
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "folder to remove it from (default: every folder of PATH)")
	cmd.Flags().BoolVar(&f.force, "force", false, "also remove a file of that name that this command did not write")
	return cmd
}

// systemPath is what the environment says about where programs are found.
func systemPath() searchPath {
	p := searchPath{hook: hookFor(runtime.GOOS), dirs: filepath.SplitList(os.Getenv("PATH"))}
	p.plugin, _ = exec.LookPath(binary) // empty when PATH does not have it
	return p
}

func (a *app) installHook(p searchPath, f hookFlags) error {
	dirs, err := p.candidates(f)
	if err != nil {
		return err
	}
	path, done, err := p.write(dirs, f.force)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "%s %s\n", done, path)
	a.noteHook(p, path)
	fmt.Fprintf(a.Out, "\nIt works once kubectl's own completion is on in your shell (kubectl 1.26 or later):\n")
	for _, sh := range shells {
		fmt.Fprintf(a.Out, "  %-11s%s\n", sh, loadScript(sh, "kubectl"))
	}
	return nil
}

// noteHook says what still keeps kubectl from finding the file that was written, or the plugin.
func (a *app) noteHook(p searchPath, path string) {
	switch found, ok := p.first(); {
	case !ok:
		a.say("note: " + filepath.Dir(path) + " is not on PATH: kubectl does not find the file until it is")
	case !samePath(found, path):
		a.say("note: PATH leads to " + found + " first: kubectl uses that one")
	}
	running, err := os.Executable()
	switch {
	case p.plugin == "":
		a.say("note: " + binary + " is not on PATH: kubectl does not find the plugin until it is")
	case err == nil && !samePath(running, p.plugin):
		a.say("note: PATH leads to " + p.plugin + ", another build than the one that runs now: that one completes")
	}
}

func (a *app) removeHook(p searchPath, f hookFlags) error {
	removed, foreign, err := p.remove(f)
	for _, path := range removed {
		fmt.Fprintf(a.Out, "removed %s\n", path)
	}
	switch {
	case err != nil:
		return err
	case len(removed) == 0 && len(foreign) > 0:
		return foreignHook(foreign[0])
	case len(removed) == 0:
		fmt.Fprintln(a.Out, "nothing to remove: completion is not installed")
	}
	return nil
}

func foreignHook(path string) error {
	return couldNot(errors.New(path+" was not written by `"+Name+" completion install`"), "look at it; --force replaces or removes it")
}
