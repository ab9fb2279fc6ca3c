package h2probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"syscall"
)

// Methods that Identify calls. The second exists nowhere: a gRPC server answers it with UNIMPLEMENTED in gRPC's own form, which
// an HTTP/2 server that is not gRPC has no reason to know.
const (
	HealthMethod  = "/grpc.health.v1.Health/Check"
	unknownMethod = "/grpclb.probe.v1.NoSuchService/NoSuchMethod"
)

// Identify finds out what a port speaks, with at most two connections: the HTTP/2 preface in plaintext and, when the answer
// leaves TLS possible, a TLS handshake that offers h2 and http/1.1. Where HTTP/2 is spoken it asks for the server's health and
// calls a method that exists nowhere. It sends no other request, so that an HTTP or database server sees at most one malformed one.
//
// Certificates are not verified (the question is what speaks there, not whether to trust it) and no secret is sent.
//
// The Identity says what was learned even when the error is not nil. The error is ctx's, wrapped, when ctx ended before a
// conclusion; a port that is closed, silent or strange is a conclusion.
func Identify(ctx context.Context, dial DialFunc, opts IdentifyOptions) (Identity, error) {
	if opts.StepTimeout <= 0 {
		opts.StepTimeout = DefaultStepTimeout
	}
	p := &prober{dial: dial, opts: opts}
	p.id.Proto = ProtoUnknown
	if p.plaintext(ctx) {
		p.overTLS(ctx)
	}
	if err := ctx.Err(); err != nil && p.id.Proto != ProtoGRPC {
		p.id.Error = joinText(p.id.Error, "interrupted: "+err.Error())
		return p.id, fmt.Errorf("identify port: %w", err)
	}
	return p.id, nil
}

type prober struct {
	dial DialFunc
	opts IdentifyOptions
	id   Identity
	// plain remembers what plaintext looked like, for the case that TLS leads nowhere.
	plain Proto
}

func (p *prober) note(format string, args ...any) {
	p.id.Evidence = append(p.id.Evidence, fmt.Sprintf(format, args...))
}

func (p *prober) callerOptions() CallerOptions {
	return CallerOptions{Authority: p.opts.ServerName, HandshakeTimeout: p.opts.StepTimeout}
}

func (p *prober) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.opts.StepTimeout)
	defer cancel()
	return p.dial(ctx)
}

// plaintext makes the first attempt and tells whether TLS is still possible.
func (p *prober) plaintext(ctx context.Context) (tryTLS bool) {
	conn, err := p.connect(ctx)
	if err != nil {
		p.unconnected(err)
		return false
	}
	c, err := NewCaller(ctx, conn, p.callerOptions())
	if err == nil {
		defer func() { _ = c.Close() }()
		p.note("plaintext HTTP/2 preface: answered with SETTINGS, %s", describeSettings(c.Settings()))
		p.prove(ctx, c)
		return false
	}
	return ctx.Err() == nil && p.notHTTP2(err)
}

// unconnected sorts a failed dial.
func (p *prober) unconnected(err error) {
	if refused(err) {
		p.id.Proto = ProtoClosed
		p.note("connection refused")
		return
	}
	p.id.Proto = ProtoUnreachable
	p.id.Error = clean(err.Error(), 300)
}

// refused knows a refusal by the system's error, or by the text in which the far end of a port-forward reports it.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "connection refused")
}

// notHTTP2 sorts the answer to the plaintext preface and tells whether TLS is still possible.
func (p *prober) notHTTP2(err error) (tryTLS bool) {
	var not *NotHTTP2Error
	switch {
	case errors.Is(err, ErrSilent):
		p.plain = ProtoSilent
		p.note("plaintext HTTP/2 preface: no byte in %s", p.opts.StepTimeout)
		return true
	case errors.As(err, &not):
		return p.firstBytes(not)
	default: // it began as HTTP/2 does, and then broke the rules
		p.id.Proto = ProtoHTTP2
		p.id.Error = clean(err.Error(), 300)
		p.note("plaintext HTTP/2 preface: answered with HTTP/2, then: %s", p.id.Error)
		return false
	}
}

func (p *prober) firstBytes(not *NotHTTP2Error) (tryTLS bool) {
	first := not.First
	status := httpStatus(first)
	switch {
	case len(first) == 0 && refused(not):
		p.unconnected(not)
		return false
	case len(first) == 0:
		p.note("plaintext HTTP/2 preface: %s", clean(not.Error(), 200))
		return true
	case isTLSAlert(first):
		p.note("plaintext HTTP/2 preface: answered with a TLS alert")
		return true
	case status != "":
		p.id.Proto, p.plain = ProtoHTTP1, ProtoHTTP1
		p.note("plaintext HTTP/2 preface: answered in HTTP/1 with status %s", status)
		// nginx and others say 400 in plaintext on their TLS port.
		return status == "400"
	case looksLikeHTML(first):
		p.id.Proto, p.plain = ProtoHTTP1, ProtoHTTP1
		p.note("plaintext HTTP/2 preface: answered with an HTML page")
		return false
	case bytes.HasPrefix(first, []byte("PRI * HTTP/2.0")):
		p.note("plaintext HTTP/2 preface: echoed back")
		return false
	default:
		p.note("plaintext HTTP/2 preface: answered with bytes of no known protocol %s", quote(first))
		return false
	}
}

// httpStatus gives the three digits of an HTTP/1 status line, or "".
func httpStatus(b []byte) string {
	m := regexp.MustCompile(`^HTTP/1\.[01] ([1-5][0-9][0-9])[ \r\n]`).FindSubmatch(b)
	if m == nil {
		return ""
	}
	return string(m[1])
}

// looksLikeHTML knows an error page without a status line: servers that take an odd request line for HTTP/0.9 send that.
func looksLikeHTML(b []byte) bool {
	lower := bytes.ToLower(bytes.TrimSpace(b))
	return bytes.HasPrefix(lower, []byte("<!doctype html")) || bytes.HasPrefix(lower, []byte("<html"))
}

// isTLSAlert knows the header of a TLS alert record: type 21, version 3.x (RFC 8446 section 5.1).
func isTLSAlert(b []byte) bool { return len(b) >= 2 && b[0] == 21 && b[1] == 3 }

// prove asks for the health and for a method that does not exist. gRPC is proved by an answer in gRPC's form to either.
func (p *prober) prove(ctx context.Context, c *Caller) {
	p.id.Proto = ProtoHTTP2
	settings := c.Settings()
	p.id.Settings = &settings
	reply, err := p.call(ctx, c, Request{Method: HealthMethod, Message: healthRequest(p.opts.HealthService)})
	p.id.Health = healthOf(reply, err)
	p.judge("health check", reply, err)
	reply, err = p.call(ctx, c, Request{Method: unknownMethod})
	p.judge("unknown method", reply, err)
	if p.id.Proto == ProtoGRPC {
		p.id.Error = "" // one answer is proof, whatever became of the other
	}
	settings = c.Settings() // a server may change its mind
}

func (p *prober) call(ctx context.Context, c *Caller, req Request) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, p.opts.StepTimeout)
	defer cancel()
	return c.Call(ctx, req)
}

func (p *prober) judge(what string, r Reply, err error) {
	if r.Server != "" {
		p.id.Server = r.Server
	}
	if err != nil {
		text := clean(unwrapCall(err).Error(), 200)
		p.note("%s: %s", what, text)
		if !errors.As(err, new(*NotGRPCError)) {
			p.id.Error = joinText(p.id.Error, what+": "+text)
		}
		return
	}
	p.id.Proto = ProtoGRPC
	form := "headers and trailers"
	if r.TrailersOnly {
		form = "trailers-only"
	}
	p.note("%s: %s, %s, content-type %s", what, r.Code, form, r.ContentType)
}

// unwrapCall drops the "call /method:" that Call puts before its errors.
func unwrapCall(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

func joinText(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

func describeSettings(s Settings) string {
	if s.MaxConcurrentStreams == nil {
		return "no limit on concurrent streams"
	}
	return fmt.Sprintf("at most %d concurrent streams", *s.MaxConcurrentStreams)
}
