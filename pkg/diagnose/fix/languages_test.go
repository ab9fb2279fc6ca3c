package fix

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestJavaCodeRuns gives the JVM the addresses by a hosts file: grpc-java ignores the DNS server in a target.
func TestJavaCodeRuns(t *testing.T) {
	cache := optIn(t, "mvn")
	libs := filepath.Join(cache, "lib")
	if _, err := os.Stat(libs); err != nil {
		write(t, cache, "pom.xml", javaPOM)
		run(t, cache, nil, "mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=lib")
	}
	b := startBackends(t)
	dir := t.TempDir()
	_, port, _ := strings.Cut(b.target(), serviceName)
	var hosts strings.Builder
	for _, ip := range loopbacks {
		hosts.WriteString(ip + " " + serviceName + "\n")
	}
	source := strings.NewReplacer(
		"CLIENT", render(t, "client", clientCode{Target: "dns:///" + serviceName + port})["java"],
		"SERVER", render(t, "server", serverCode{Age: time.Minute, Grace: time.Second})["java"],
	).Replace(javaMain)
	classes := dir + string(os.PathListSeparator) + filepath.Join(libs, "*")
	run(t, dir, nil, "javac", "-cp", classes, write(t, dir, "Main.java", source))
	run(t, dir, nil, "java", "-Djdk.net.hosts.file="+write(t, dir, "hosts", hosts.String()), "-cp", classes, "Main")
	b.spread(t, enoughCalls)
}

const javaPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>test</groupId><artifactId>test</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>io.grpc</groupId><artifactId>grpc-netty</artifactId><version>1.85.1</version></dependency>
    <dependency><groupId>io.grpc</groupId><artifactId>grpc-stub</artifactId><version>1.85.1</version></dependency>
  </dependencies>
</project>
`

const javaMain = `
public class Main {
  static final io.grpc.MethodDescriptor.Marshaller<byte[]> BYTES = new io.grpc.MethodDescriptor.Marshaller<byte[]>() {
    public java.io.InputStream stream(byte[] b) { return new java.io.ByteArrayInputStream(b); }
    public byte[] parse(java.io.InputStream in) {
      try { return in.readAllBytes(); } catch (java.io.IOException e) { throw new RuntimeException(e); }
    }
  };

  public static void main(String[] args) throws Exception {
    CLIENT
    io.grpc.MethodDescriptor<byte[], byte[]> check = io.grpc.MethodDescriptor.newBuilder(BYTES, BYTES)
        .setType(io.grpc.MethodDescriptor.MethodType.UNARY).setFullMethodName("grpc.health.v1.Health/Check").build();
    for (int i = 0; i < 90; i++) {
      io.grpc.stub.ClientCalls.blockingUnaryCall(channel, check, io.grpc.CallOptions.DEFAULT.withWaitForReady(), new byte[0]);
    }
    channel.shutdownNow();
    int port = 0;
    io.grpc.ServerServiceDefinition service = io.grpc.ServerServiceDefinition.builder("x").build();
    SERVER
    server.start().shutdownNow();
  }
}
`

func TestCppCodeRuns(t *testing.T) {
	optIn(t, "g++")
	flags, err := exec.CommandContext(t.Context(), "pkg-config", "--cflags", "--libs", "grpc++").Output()
	if err != nil {
		t.Skip("no gRPC for C++ on this machine (Debian: libgrpc++-dev)")
	}
	b := startBackends(t)
	dir := t.TempDir()
	source := render(t, "client", clientCode{Target: b.target()})["cpp"] +
		render(t, "server", serverCode{Age: time.Minute, Grace: time.Second})["cpp"] + cppMain
	program := filepath.Join(dir, "client")
	args := append([]string{"-std=c++17", "-O0", "-o", program, write(t, dir, "client.cc", source)}, strings.Fields(string(flags))...)
	run(t, dir, nil, "g++", args...)
	run(t, dir, []string{"GRPC_DNS_RESOLVER=ares"}, program)
	b.spread(t, enoughCalls)
}

const cppMain = `
#include <chrono>
#include <iostream>
#include <grpcpp/generic/generic_stub.h>

int main() {
  grpc::ServerBuilder builder;
  LimitConnectionAge(builder);
  auto channel = NewChannel();
  grpc::GenericStub stub(channel);
  for (int i = 0; i < 90; i++) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    grpc::CompletionQueue queue;
    grpc::Slice nothing;
    grpc::ByteBuffer request(&nothing, 1);
    grpc::ByteBuffer answer;
    grpc::Status status;
    auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
    call->StartCall();
    call->Finish(&answer, &status, nullptr);
    void* tag;
    bool ok;
    queue.Next(&tag, &ok);
    if (!status.ok()) {
      std::cerr << status.error_code() << ": " << status.error_message() << std::endl;
      return 1;
    }
  }
}
`
