//go:build !linux

package main

import (
	"errors"
	"net/netip"
)

func stopPod(string) error                     { return errors.ErrUnsupported }
func contPod(string) error                     { return errors.ErrUnsupported }
func killPod(string) error                     { return errors.ErrUnsupported }
func killSidecar(string) error                 { return errors.ErrUnsupported }
func route(string, netip.Prefix, string) error { return errors.ErrUnsupported }
func unroute(string, netip.Prefix) error       { return errors.ErrUnsupported }

func firstInLine() (func() error, error) { return nil, errors.ErrUnsupported }
