package h2probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync/atomic"
)

// overTLS makes the second attempt.
func (p *prober) overTLS(ctx context.Context) {
	conn, err := p.connect(ctx)
	if err != nil {
		p.note("TLS handshake: no second connection: %s", clean(err.Error(), 200))
		p.fallBack()
		p.id.Error = clean(err.Error(), 300)
		return
	}
	var asked atomic.Bool
	tc := tls.Client(conn, p.tlsConfig(&asked))
	if err := p.handshake(ctx, tc); err != nil {
		_ = conn.Close()
		p.failedHandshake(err, asked.Load())
		return
	}
	p.id.TLS = describeTLS(tc.ConnectionState(), asked.Load())
	p.note("TLS handshake: %s, ALPN %q", p.id.TLS.Version, p.id.TLS.ALPN)
	if p.id.TLS.ALPN == "http/1.1" {
		_ = conn.Close()
		p.id.Proto = ProtoHTTP1
		return
	}
	p.insideTLS(ctx, tc)
}

// tlsConfig takes any certificate and any version that can still be spoken: the handshake identifies a server, and neither sends nor
// believes anything that would need an authenticated peer.
func (p *prober) tlsConfig(asked *atomic.Bool) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, // see above
		MinVersion:         tls.VersionTLS10,
		ServerName:         p.opts.ServerName,
		NextProtos:         []string{"h2", "http/1.1"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked.Store(true)
			return &tls.Certificate{}, nil // none: a server that insists says so
		},
	}
}

func (p *prober) handshake(ctx context.Context, tc *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, p.opts.StepTimeout)
	defer cancel()
	return tc.HandshakeContext(ctx)
}

// failedHandshake tells a TLS server that refused us from a peer that does not speak TLS.
func (p *prober) failedHandshake(err error, asked bool) {
	text := clean(err.Error(), 200)
	p.note("TLS handshake: %s", text)
	if remoteAlert(err) || asked {
		p.id.Proto = ProtoTLS
		p.id.TLS = &TLSInfo{Error: text}
		if asked {
			p.id.TLS.ClientCert = ClientCertRequired
		}
		p.id.Error = "TLS handshake: " + text
		return
	}
	p.fallBack()
}

// fallBack keeps what plaintext showed when TLS shows nothing.
func (p *prober) fallBack() {
	if p.plain != "" {
		p.id.Proto = p.plain
	}
}

// remoteAlert tells whether the peer answered with a TLS alert: then it speaks TLS.
func remoteAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// insideTLS speaks HTTP/2 inside TLS, also to servers without ALPN: some old ones go without.
func (p *prober) insideTLS(ctx context.Context, tc *tls.Conn) {
	c, err := NewCaller(ctx, tc, p.callerOptions())
	if err == nil {
		defer func() { _ = c.Close() }()
		p.note("HTTP/2 preface inside TLS: answered with SETTINGS, %s", describeSettings(c.Settings()))
		p.prove(ctx, c)
		return
	}
	text := clean(unwrapCall(err).Error(), 200)
	p.note("HTTP/2 preface inside TLS: %s", text)
	p.id.Proto = ProtoTLS
	var not *NotHTTP2Error
	switch {
	case remoteAlert(err) && p.id.TLS.ClientCert != "":
		// In TLS 1.3 the client's handshake is over before the server misses the certificate (RFC 8446 section 4.4.2.4).
		p.id.TLS.ClientCert = ClientCertRequired
		p.id.TLS.Error = text
	case errors.As(err, &not) && len(not.First) > 0 && (httpStatus(not.First) != "" || looksLikeHTML(not.First)):
		p.id.Proto = ProtoHTTP1
		return
	case !errors.As(err, &not) && !errors.Is(err, ErrSilent):
		p.id.Proto = ProtoHTTP2
	}
	p.id.Error = text
}

func describeTLS(st tls.ConnectionState, asked bool) *TLSInfo {
	info := &TLSInfo{Version: tls.VersionName(st.Version), ALPN: clean(st.NegotiatedProtocol, 32)}
	if asked {
		info.ClientCert = ClientCertRequested
	}
	if len(st.PeerCertificates) > 0 {
		describeCert(info, st.PeerCertificates[0])
	}
	return info
}

func describeCert(info *TLSInfo, cert *x509.Certificate) {
	const mostNames, mostLen = 64, 253 // RFC 1035 section 2.3.4: no host name is longer
	info.Subject = clean(cert.Subject.CommonName, mostLen)
	end := cert.NotAfter.UTC()
	info.NotAfter = &end
	for _, name := range cert.DNSNames {
		if len(info.Names) < mostNames {
			info.Names = append(info.Names, clean(name, mostLen))
		}
	}
	for _, ip := range cert.IPAddresses {
		if len(info.Names) < mostNames {
			info.Names = append(info.Names, ip.String())
		}
	}
}
