//go:build !linux

package sockdiag

import "context"

// Dump returns ErrUnsupported.
func Dump(context.Context, StateSet) (Table, error) { return Table{}, ErrUnsupported }
