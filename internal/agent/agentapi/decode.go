package agentapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Errors of ReadSockets and ReadProbe. Test with errors.Is.
var (
	// ErrCut: the report has no end line or its lines do not add up. What was read is returned beside it.
	ErrCut = errors.New("report is cut short")
	// ErrNoReport: no line of a report was found; the error's text quotes what was there instead.
	ErrNoReport = errors.New("no agent report")
	// ErrVersion: the agent speaks another version of the contract.
	ErrVersion = errors.New("agent speaks another version")
	// ErrTooLong: a line or the whole input is beyond what an agent prints.
	ErrTooLong = errors.New("agent report is too long")
)

// Bounds of what readers take in: the image that runs as the agent can be replaced by its user.
const (
	maxReadLine = 64 << 10
	maxReadSize = 64 << 20
)

// ReadSockets reads one report and stops after its end line, so that it may be given a log that is still being followed.
// Lines that are no part of a report (a runtime's own messages) are passed over. Errors: ErrCut (with what was read),
// ErrNoReport, ErrVersion, ErrTooLong, or that of r, wrapped.
func ReadSockets(r io.Reader) (SocketReport, error) {
	var rep SocketReport
	err := read(r, KindSockets, func(l *line) (int, error) {
		n := len(rep.Sockets) + len(rep.Errors)
		err := errors.Join(decode(l.Head, &rep), decodeList(l.Sockets, &rep.Sockets), decodeList(l.Errors, &rep.Errors))
		return len(rep.Sockets) + len(rep.Errors) - n, err
	})
	return rep, err
}

// ReadProbe reads one report as ReadSockets does.
func ReadProbe(r io.Reader) (ProbeReport, error) {
	var rep ProbeReport
	count := func() int { return len(rep.Targets) + len(rep.Channels) + len(rep.Errors) }
	err := read(r, KindProbe, func(l *line) (int, error) {
		n := count()
		err := errors.Join(decode(l.Head, &rep), decodeList(l.Targets, &rep.Targets),
			decodeList(l.Channels, &rep.Channels), decodeList(l.Errors, &rep.Errors))
		return count() - n, err
	})
	return rep, err
}

// read feeds the lines of a report to take, which returns the number of items a line added.
func read(r io.Reader, kind string, take func(*line) (int, error)) error {
	br := bufio.NewReaderSize(io.LimitReader(r, maxReadSize), maxReadLine)
	var lines, items int
	var stray []byte
	for {
		text, err := br.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("read %s: %w: line beyond %d bytes", kind, ErrTooLong, maxReadLine)
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("read %s: %w", kind, err)
		case err != nil:
			return endless(kind, lines, stray) // a last line without its newline is a cut one
		}
		l, err := parseLine(text, kind)
		if err != nil {
			return err
		}
		if l == nil {
			stray = keep(stray, text)
			continue
		}
		if l.End != nil {
			if l.End.Lines != lines || l.End.Items != items || lines == 0 {
				return fmt.Errorf("read %s: %w: %d of %d lines, %d of %d items", kind, ErrCut, lines, l.End.Lines, items, l.End.Items)
			}
			return nil
		}
		n, err := take(l)
		if err != nil {
			return fmt.Errorf("read %s: %w", kind, err)
		}
		lines, items = lines+1, items+n
	}
}

// parseLine returns nil for a line that is no part of a report of this kind.
func parseLine(text []byte, kind string) (*line, error) {
	if !bytes.HasPrefix(text, []byte(`{"version":"grpclb.dev/agent/`)) {
		return nil, nil
	}
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, nil // a torn line is passed over; the end line's count finds it missing
	}
	if l.Version != Version {
		return nil, fmt.Errorf("read %s: %w: %.40q, want %q", kind, ErrVersion, l.Version, Version)
	}
	if l.Kind != kind {
		return nil, nil
	}
	return &l, nil
}

func endless(kind string, lines int, stray []byte) error {
	if lines > 0 {
		return fmt.Errorf("read %s: %w: no end after %d lines", kind, ErrCut, lines)
	}
	if len(stray) == 0 {
		return fmt.Errorf("read %s: %w: nothing was printed", kind, ErrNoReport)
	}
	return fmt.Errorf("read %s: %w: found %q", kind, ErrNoReport, bytes.TrimSpace(stray))
}

// keep remembers the beginning of what was printed instead of a report.
func keep(stray, text []byte) []byte {
	if room := MaxText - len(stray); room > 0 {
		stray = append(stray, text[:min(room, len(text))]...)
	}
	return stray
}

func decode(raw json.RawMessage, into any) error {
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}

// decodeList appends: lists come in several lines.
func decodeList[T any](raw json.RawMessage, into *[]T) error {
	if raw == nil {
		return nil
	}
	var part []T
	if err := json.Unmarshal(raw, &part); err != nil {
		return err
	}
	*into = append(*into, part...)
	return nil
}
