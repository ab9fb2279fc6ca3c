package dnsprobe_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/grpclb/kubectl-grpclb/internal/testkit/dnstest"
	"github.com/grpclb/kubectl-grpclb/pkg/dnsprobe"
)

func open(t testing.TB, client dnsprobe.Client, addr string) *dnsprobe.Session {
	t.Helper()
	if client.Dial == nil {
		client.Dial = dnstest.NewDialer(t).DialContext
	}
	session, err := client.Open(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

// TestSessionAnswersOutOfOrder has the server hold back all answers until the last question came, so that only a client that
// really pipelines gets any, and then answer in reverse.
func TestSessionAnswersOutOfOrder(t *testing.T) {
	const n = 20
	server := dnstest.Attack(t, dnstest.Reversed(n))
	session := open(t, dnsprobe.Client{}, server.Addr())
	var asking sync.WaitGroup
	for i := range n {
		asking.Go(func() {
			q := a(fmt.Sprintf("name%d.test", i))
			if i%2 == 1 {
				q.Type = dnsprobe.TypeAAAA
			}
			got, err := session.Ask(t.Context(), q)
			if err != nil {
				t.Errorf("question %d: %v", i, err)
				return
			}
			if got.Records[0].Name != q.Name+"." || got.Records[0].Type != q.Type || got.Transport != dnsprobe.TCP {
				t.Errorf("question %d got %+v", i, got)
			}
		})
	}
	asking.Wait()
	if seen := len(server.Queries()); seen != n {
		t.Errorf("server saw %d questions", seen)
	}
}

// TestSessionOutlivesAQuestion lets one question time out, whose answer then comes late: later questions must not be disturbed.
func TestSessionOutlivesAQuestion(t *testing.T) {
	var late *dnstest.Peer
	server := dnstest.Attack(t, func(p *dnstest.Peer) {
		switch p.Question.Question[0].Name {
		case "silent.test.":
			late = p
		case "wrong.test.":
			dnstest.NotAResponse()(p)
		default:
			if late != nil {
				late.Send(late.Reply())
			}
			p.Send(p.Reply())
		}
	})
	session := open(t, dnsprobe.Client{}, server.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	if _, err := session.Ask(ctx, a("silent.test")); !errors.Is(err, dnsprobe.ErrTimeout) {
		t.Fatalf("silent: error %v", err)
	}
	if _, err := session.Ask(t.Context(), a("wrong.test")); !errors.Is(err, dnsprobe.ErrSpoofed) {
		t.Fatalf("wrong: error %v", err)
	}
	got, err := session.Ask(t.Context(), a("name.test"))
	if err != nil || got.Question.Name != "name.test." {
		t.Fatalf("after a late answer: error %v, answer %+v", err, got)
	}
	if _, err := session.Ask(t.Context(), a("bad..name")); !errors.Is(err, dnsprobe.ErrBadQuestion) {
		t.Errorf("bad name: error %v", err)
	}
}

func TestSessionEndsForAll(t *testing.T) {
	t.Run("answer to an unknown id", func(t *testing.T) {
		server := dnstest.Attack(t, dnstest.WrongID())
		session := open(t, dnsprobe.Client{}, server.Addr())
		if _, err := session.Ask(t.Context(), a("name.test")); !errors.Is(err, dnsprobe.ErrSpoofed) {
			t.Errorf("error %v", err)
		}
		// What ended the session is not the fault of a question that never went out.
		if _, err := session.Ask(t.Context(), a("name.test")); dnsprobe.KindOf(err) != dnsprobe.KindClosed {
			t.Errorf("next question: error %v", err)
		}
	})
	t.Run("closed by its owner", func(t *testing.T) {
		server := dnstest.Attack(t, dnstest.Silence())
		session := open(t, dnsprobe.Client{Timeout: time.Hour}, server.Addr())
		failed := make(chan error)
		go func() {
			_, err := session.Ask(t.Context(), a("name.test"))
			failed <- err
		}()
		eventually(t, "the question to arrive", func() bool { return len(server.Queries()) == 1 })
		session.Close()
		session.Close()
		if err := <-failed; !errors.Is(err, dnsprobe.ErrClosed) {
			t.Errorf("question on its way: error %v", err)
		}
		if _, err := session.Ask(t.Context(), a("name.test")); !errors.Is(err, dnsprobe.ErrClosed) {
			t.Errorf("later question: error %v", err)
		}
	})
}

// TestSessionWriteThatBlocks has a peer that reads nothing, and a connection that, as a pipe without deadlines, blocks
// at the first octet.
func TestSessionWriteThatBlocks(t *testing.T) {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { theirs.Close() })
	client := dnsprobe.Client{Timeout: short}
	session := client.NewSession(ours, "pipe")
	defer session.Close()
	var asking sync.WaitGroup
	for range 3 {
		asking.Go(func() {
			_, err := session.Ask(t.Context(), a("name.test"))
			if kind := dnsprobe.KindOf(err); kind != dnsprobe.KindTimeout && kind != dnsprobe.KindClosed {
				t.Errorf("error %v", err)
			}
		})
	}
	asking.Wait()
}

func TestSessionWithoutEDNS(t *testing.T) {
	server := dnstest.Attack(t, dnstest.RefuseEDNS(dns.RcodeFormatError))
	session := open(t, dnsprobe.Client{EDNSSize: 1232}, server.Addr())
	got, err := session.Ask(t.Context(), a("name.test"))
	if err != nil || !got.EDNSRefused() || got.Outcome() != dnsprobe.OutcomeFound {
		t.Errorf("error %v, answer %+v", err, got)
	}
	// The refusal stays visible when nothing comes of asking without.
	server = dnstest.Attack(t, dnstest.FirstOnly(dnstest.RefuseEDNS(dns.RcodeFormatError), dnstest.Silence()))
	session = open(t, dnsprobe.Client{EDNSSize: 1232, Timeout: short}, server.Addr())
	got, err = session.Ask(t.Context(), a("name.test"))
	if !errors.Is(err, dnsprobe.ErrTimeout) || got == nil || got.Rcode != dnsprobe.RcodeFormatError {
		t.Errorf("silence without EDNS: error %v, answer %+v", err, got)
	}
}

// refusing is a port-forward stream whose other end found the port closed: the reason arrives by reading.
type refusing struct{ net.Conn }

func (refusing) Read([]byte) (int, error) {
	return 0, fmt.Errorf("error stream: %w", dnsprobe.ErrConnRefused)
}
func (refusing) Write(b []byte) (int, error) { return len(b), nil }
func (refusing) Close() error                { return nil }

func TestAskBelievesTheConnection(t *testing.T) {
	client := dnsprobe.Client{Transport: dnsprobe.TCP, Dial: func(context.Context, string, string) (net.Conn, error) {
		return refusing{}, nil
	}}
	if _, err := client.Ask(t.Context(), "pod", a("name.test")); dnsprobe.KindOf(err) != dnsprobe.KindConnRefused {
		t.Errorf("error %v", err)
	}
}

// TestAskWritesOnePiece looks at the framing itself: prefix and message in one write, and nothing behind it.
func TestAskWritesOnePiece(t *testing.T) {
	ours, theirs := net.Pipe()
	client := dnsprobe.Client{Timeout: short, EDNSSize: 1232}
	session := client.NewSession(ours, "pipe")
	defer session.Close()
	wrote := make(chan []byte, 1)
	go func() {
		buf := make([]byte, 512)
		n, _ := theirs.Read(buf) // a pipe hands over one write at a time
		theirs.Close()
		wrote <- buf[:n]
	}()
	_, err := session.Ask(t.Context(), a("name.test"))
	if !errors.Is(err, dnsprobe.ErrClosed) {
		t.Errorf("error %v", err)
	}
	frame := <-wrote
	var m dns.Msg
	if len(frame) < 2 || int(binary.BigEndian.Uint16(frame)) != len(frame)-2 || m.Unpack(frame[2:]) != nil {
		t.Fatalf("frame %x", frame)
	}
	if m.Question[0].Name != "name.test." || m.IsEdns0() == nil || m.IsEdns0().UDPSize() != 1232 || !m.RecursionDesired {
		t.Errorf("question %v", &m)
	}
}

func TestAskAll(t *testing.T) {
	server := dnstest.Serve(t, cluster(t, 5))
	dialer := dnstest.NewDialer(t)
	client := dnsprobe.Client{Dial: dialer.DialContext}
	questions := make([]dnsprobe.Question, 300) // more than the server answers on one connection
	for i := range questions {
		questions[i] = a(service)
		switch i {
		case 7:
			questions[i].Name = "unknown." + service
		case 9:
			questions[i].Name = "bad..name"
		}
	}
	results := client.AskAll(t.Context(), server.Addr(), questions, 0)
	for i, r := range results {
		switch i {
		case 7:
			if r.Failure != nil || r.Answer.Outcome() != dnsprobe.OutcomeNXDomain {
				t.Errorf("result 7: %+v", r)
			}
		case 9:
			if r.Failure == nil || r.Failure.Kind != dnsprobe.KindBadQuestion || r.Answer != nil {
				t.Errorf("result 9: %+v", r)
			}
		default:
			if r.Err != nil || len(r.Answer.Addresses()) != 5 || r.Server != server.Addr() || r.Question.Name != service {
				t.Errorf("result %d: %+v", i, r)
			}
		}
	}
	if n := len(dialer.Dialed()); n < 3 || n > 20 {
		t.Errorf("%d connections for 300 questions at 128 each", n)
	}
}

func TestAskAllWithoutHope(t *testing.T) {
	questions := []dnsprobe.Question{a("name.test"), a("other.test")}
	t.Run("refused", func(t *testing.T) {
		var client dnsprobe.Client
		for i, r := range client.AskAll(t.Context(), dnstest.RefusedAddr(t), questions, 1) {
			if r.Failure == nil || r.Failure.Kind != dnsprobe.KindConnRefused || r.Answer != nil ||
				!strings.HasPrefix(r.Failure.Message, "connect to 127.0.0.1:") {
				t.Errorf("result %d: %+v", i, r)
			}
		}
	})
	t.Run("closed each time", func(t *testing.T) {
		server := dnstest.Attack(t, dnstest.Hangup())
		dialer := dnstest.NewDialer(t)
		client := dnsprobe.Client{Dial: dialer.DialContext}
		for i, r := range client.AskAll(t.Context(), server.Addr(), questions, 1) {
			if r.Failure == nil || r.Failure.Kind != dnsprobe.KindClosed {
				t.Errorf("result %d: %+v", i, r)
			}
		}
		if n := len(dialer.Dialed()); n != 1 {
			t.Errorf("%d connections to a server that answers nothing", n)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var client dnsprobe.Client
		for i, r := range client.AskAll(ctx, "127.0.0.1:53", questions, 1) {
			if r.Failure == nil || r.Failure.Kind != dnsprobe.KindCanceled {
				t.Errorf("result %d: %+v", i, r)
			}
		}
	})
	if got := new(dnsprobe.Client).AskAll(t.Context(), "127.0.0.1:53", nil, 0); len(got) != 0 {
		t.Errorf("no questions, %d results", len(got))
	}
}

func TestKindOf(t *testing.T) {
	for _, test := range []struct {
		err  error
		want dnsprobe.Kind
	}{
		{nil, ""},
		{io.EOF, dnsprobe.KindOther},
		{fmt.Errorf("x: %w", dnsprobe.ErrTruncatedTCP), dnsprobe.KindTruncatedTCP},
		{context.Canceled, dnsprobe.KindCanceled},
		{dnsprobe.ErrBadQuestion, dnsprobe.KindBadQuestion},
	} {
		if got := dnsprobe.KindOf(test.err); got != test.want {
			t.Errorf("%v: kind %q, want %q", test.err, got, test.want)
		}
	}
	if dnsprobe.NewFailure(nil) != nil {
		t.Error("a failure without an error")
	}
}
