package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/grpclb/kubectl-grpclb/examples/internal/app"
	"github.com/grpclb/kubectl-grpclb/examples/square/internal/server"
	squarepb "github.com/grpclb/kubectl-grpclb/examples/square/proto"
)

func TestFindSquareUnary(t *testing.T) {
	cases := []struct {
		number, result int32
		code           codes.Code
	}{
		{0, 0, codes.OK},
		{5, 25, codes.OK},
		{-3, 9, codes.OK},
		{server.MaxNumber, 2147395600, codes.OK},
		{server.MaxNumber + 1, 0, codes.OutOfRange},
		{-server.MaxNumber - 1, 0, codes.OutOfRange},
		{-2147483648, 0, codes.OutOfRange},
	}
	for _, c := range cases {
		out, err := server.Server{Host: "pod-a"}.FindSquareUnary(t.Context(), &squarepb.Input{Number: c.number})
		if status.Code(err) != c.code {
			t.Errorf("square of %d: %v, want %v", c.number, err, c.code)
			continue
		}
		if err == nil && (out.GetNumber() != c.number || out.GetResult() != c.result || out.GetHost() != "pod-a") {
			t.Errorf("square of %d: %v", c.number, out)
		}
	}
}

func TestRunServesUntilItIsAskedToStop(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	logs, stderr := io.Pipe()
	env := app.Env{Getenv: func(name string) string { return map[string]string{"GRPC_SERVER_PORT": "0"}[name] }, Stderr: stderr}
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, env) }()
	line, err := bufio.NewReader(logs).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	port := regexp.MustCompile(`address=\S*:(\d+)`).FindStringSubmatch(line)
	if port == nil {
		t.Fatalf("the first log line names no port: %s", line)
	}
	conn, err := grpc.NewClient("127.0.0.1:"+port[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	out, err := squarepb.NewSquareServiceClient(conn).FindSquareUnary(ctx, &squarepb.Input{Number: 7})
	if err != nil || out.GetResult() != 49 || out.GetHost() == "" {
		t.Errorf("the square of 7: %v, %v", out, err)
	}
	stop()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Error("Run did not end")
	}
}

func TestRunRefusesABadPort(t *testing.T) {
	env := app.Env{Getenv: func(string) string { return "six" }, Stderr: &bytes.Buffer{}}
	var usage *app.UsageError
	if err := server.Run(t.Context(), env); !errors.As(err, &usage) {
		t.Errorf("Run with a bad port: %v, want a usage error", err)
	}
}
