package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// serve forwards to dial and returns the address to connect to. The function
// stops it and reports its error.
func serve(t *testing.T, dial Dialer) (string, func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, dial) }()
	stop := func() error {
		cancel()
		select {
		case err := <-ended:
			ended <- err
			return err
		case <-time.After(10 * time.Second):
			return errors.New("it did not end")
		}
	}
	t.Cleanup(func() { _ = stop() })
	return l.Addr().String(), stop
}

// upper is a server that reads to the end of the input before it answers.
func upper(t *testing.T) Dialer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in, err := io.ReadAll(c)
				if err == nil {
					_, _ = c.Write(append([]byte("got "), in...))
				}
			}()
		}
	}()
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

func dialed(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func TestEndOfInputIsPassedOnAndTheAnswerStillArrives(t *testing.T) {
	addr, stop := serve(t, upper(t))
	c := dialed(t, addr)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "got hello" {
		t.Errorf("answer %q, %v", got, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestDeadServerClosesTheConnection(t *testing.T) {
	addr, _ := serve(t, func(context.Context) (net.Conn, error) { return nil, errors.New("refused") })
	if _, err := io.ReadAll(dialed(t, addr)); err != nil {
		t.Errorf("want the end of the stream, got %v", err)
	}
}

func TestStopClosesOpenConnections(t *testing.T) {
	addr, stop := serve(t, upper(t))
	c := dialed(t, addr)
	if _, err := c.Write([]byte("never finished")); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil && !errors.Is(err, net.ErrClosed) {
		var netErr net.Error
		if errors.As(err, &netErr) && netErr.Timeout() {
			t.Error("the connection is still open")
		}
	}
}
