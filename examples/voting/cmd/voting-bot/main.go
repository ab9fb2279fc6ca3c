// Command voting-bot votes on the voting example's page, for all choices in turn, until it is told to stop.
package main

import (
	"os"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/voting/internal/bot"
)

func main() { os.Exit(app.Run("voting-bot", bot.Run)) }
