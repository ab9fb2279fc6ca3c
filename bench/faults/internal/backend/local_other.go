//go:build !linux

package backend

import "errors"

func ownAddresses(string) error { return errors.ErrUnsupported }
