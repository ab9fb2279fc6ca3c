// Package procnet reads the text of /proc/net/tcp and /proc/net/tcp6 (proc_pid_net(5)), wherever that text came from: it opens no
// file, so that a plugin on any system can read what `cat` printed in a pod.
//
// It tells who is connected to whom and no more; byte counters are only to be had from the kernel's INET_DIAG (package sockdiag).
//
//	sockets, err := procnet.Parse(output, binary.LittleEndian)
//
// # Format
//
// One socket a line. Addresses are the network-order bytes printed as 32-bit words of the machine's own byte order, so the
// reader has to know that order: little-endian everywhere but on s390x. A server bound to [::] has its IPv4 peers in tcp6 only, as
// IPv4-mapped addresses (RFC 4291 section 2.5.5.2): read both files.
package procnet

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
)

// MaxSockets bounds how many sockets Parse takes in; more is ErrTooMany.
const MaxSockets = 200_000

// Errors of Parse. Test with errors.Is.
var (
	// ErrMalformed: a line is not of the format. The other lines are returned.
	ErrMalformed = errors.New("malformed line")
	// ErrTooMany: there are more than MaxSockets lines. The first of them are returned.
	ErrTooMany = errors.New("too many sockets")
)

const maxLine = 1024 // the kernel pads to 150; tcp6 lines are a little longer

// Parse reads one file or several, one after the other. Order is the byte order of the machine that wrote the text; nil means
// little-endian. IPv4-mapped addresses come out as IPv4. The sockets are valid beside an error, which tells the first bad
// line and how many there were, or is that of r.
func Parse(r io.Reader, order binary.ByteOrder) ([]agentapi.Socket, error) {
	if order == nil {
		order = binary.LittleEndian
	}
	var out []agentapi.Socket
	var first error
	bad := 0
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, maxLine), maxLine)
	for n := 1; sc.Scan(); n++ {
		fields := strings.Fields(sc.Text())
		if len(fields) == 0 || fields[0] == "sl" { // the heading of each file
			continue
		}
		if len(out) == MaxSockets {
			return out, fmt.Errorf("read socket table: %w: more than %d", ErrTooMany, MaxSockets)
		}
		s, err := parseLine(fields, order)
		if err != nil {
			if bad++; first == nil {
				first = fmt.Errorf("line %d: %w", n, err)
			}
			continue
		}
		out = append(out, s)
	}
	if err := sc.Err(); err != nil {
		return out, fmt.Errorf("read socket table: %w", err)
	}
	if first != nil {
		return out, fmt.Errorf("read socket table: %w (%d in all): %w", ErrMalformed, bad, first)
	}
	return out, nil
}

// parseLine takes the columns: slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode.
func parseLine(f []string, order binary.ByteOrder) (agentapi.Socket, error) {
	var s agentapi.Socket
	if len(f) < 10 || !strings.HasSuffix(f[0], ":") {
		return s, fmt.Errorf("%d columns", len(f))
	}
	var err error
	if s.Local, err = parseAddr(f[1], order); err != nil {
		return s, fmt.Errorf("local address: %w", err)
	}
	if s.Remote, err = parseAddr(f[2], order); err != nil {
		return s, fmt.Errorf("remote address: %w", err)
	}
	state, err := strconv.ParseUint(f[3], 16, 8)
	if err != nil {
		return s, fmt.Errorf("state: %w", err)
	}
	uid, err := strconv.ParseUint(f[7], 10, 32)
	if err != nil {
		return s, fmt.Errorf("uid: %w", err)
	}
	if s.Inode, err = strconv.ParseUint(f[9], 10, 64); err != nil {
		return s, fmt.Errorf("inode: %w", err)
	}
	s.State, s.UID = agentapi.TCPState(uint8(state)), uint32(uid)
	return s, nil
}

// parseAddr reads "0100007F:1F90"; the port is in plain hexadecimal.
func parseAddr(text string, order binary.ByteOrder) (netip.AddrPort, error) {
	addr, port, ok := strings.Cut(text, ":")
	if !ok {
		return netip.AddrPort{}, errors.New("no port")
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port: %w", err)
	}
	raw, err := hex.DecodeString(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("address of %d bytes", len(raw))
	}
	for i := 0; i < len(raw); i += 4 {
		// The text is the word's value, so its bytes in memory are that value in the machine's order.
		order.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	ip, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}
