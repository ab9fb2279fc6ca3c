// Package ballot is what the programs of the voting example agree on: what may be voted for, and which vote fails.
package ballot

import "slices"

// Broken is the choice whose votes the voting service never manages to count. It is a bug, and it is meant to be found: whoever votes
// for all choices in turn sees one call in [Choices] fail, on whichever pod it lands.
const Broken = "jellybean"

// Choices are what may be voted for, in the order of the page. There are ten: votes for all in turn fail at a rate of 10 %.
func Choices() []string {
	return []string{"apple", "bagel", "cashew", "date", "eclair", "falafel", "granola", "hummus", "icecream", Broken}
}

// Known reports whether a choice is on the ballot.
func Known(choice string) bool { return slices.Contains(Choices(), choice) }
