// Calls the square example over one gRPC channel, as any C++ program would, and prints once a second who answered.
//
//     client TARGET CALLS_PER_SECOND
//
// Messages are written and read by hand, so that nothing is generated. The lines are those of every client in this folder: see clients.go.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;
using Counts = std::map<std::string, int>;

std::string Request(unsigned n) {
  std::string out = "\x08";
  for (; n > 127; n >>= 7) out += static_cast<char>((n & 127) | 128);
  return out += static_cast<char>(n);
}

uint64_t Number(const std::string& message, size_t& at) {
  uint64_t n = 0;
  for (int shift = 0; at < message.size(); shift += 7) {
    unsigned char b = message[at++];
    n |= static_cast<uint64_t>(b & 127) << shift;
    if (b < 128) break;
  }
  return n;
}

// Host takes the name of the host from an answer, whose square has to be right.
bool Host(const std::string& message, uint64_t n, std::string& host) {
  uint64_t square = 0;
  for (size_t at = 0; at < message.size();) {
    uint64_t key = Number(message, at), value = Number(message, at);
    if ((key & 7) == 2) {
      host = message.substr(at, value);
      at += value;
    } else if (key >> 3 == 2) {
      square = value;
    }
  }
  return square == n * n;
}

grpc::Status Call(grpc::GenericStub& stub, uint64_t n, std::string& host) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  grpc::Slice slice(Request(n));
  grpc::ByteBuffer request(&slice, 1), response;
  grpc::CompletionQueue queue;
  grpc::Status status;
  auto call = stub.PrepareUnaryCall(&context, "/square.SquareService/findSquareUnary", request, &queue);
  call->StartCall();
  call->Finish(&response, &status, nullptr);
  void* tag;
  bool ok;
  queue.Next(&tag, &ok);
  if (!status.ok()) return status;
  std::vector<grpc::Slice> parts;
  if (auto dumped = response.Dump(&parts); !dumped.ok()) return dumped;
  std::string message;
  for (const auto& p : parts) message.append(reinterpret_cast<const char*>(p.begin()), p.size());
  if (!Host(message, n, host)) return {grpc::StatusCode::DATA_LOSS, "that is not the square of " + std::to_string(n)};
  return status;
}

std::string Json(const Counts& counts) {
  std::ostringstream out;
  out << '{';
  for (const auto& [what, n] : counts) {
    out << (out.tellp() > 1 ? "," : "") << '"';
    for (char c : what) out << (c == '"' || c == '\\' || c < ' ' ? '\'' : c);
    out << "\":" << n;
  }
  out << '}';
  return out.str();
}

}  // namespace

int main(int, char** argv) {
  auto channel = grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials());
  const auto every = std::chrono::nanoseconds(std::chrono::seconds(1)) / std::stoi(argv[2]);
  grpc::GenericStub stub(channel);
  Counts hosts, errors;
  int calls = 0, failed = 0;
  const auto start = Clock::now();
  auto said = start;
  for (int n = 1;; ++n) {
    std::string host;
    auto status = Call(stub, n % 1000, host);
    ++calls;
    if (status.ok()) {
      ++hosts[host];
    } else {
      ++failed;
      ++errors[std::to_string(status.error_code()) + ": " + status.error_message()];
    }
    if (Clock::now() - said >= std::chrono::seconds(1)) {
      said = Clock::now();
      std::cout << "{\"calls\":" << calls << ",\"failed\":" << failed << ",\"hosts\":" << Json(hosts) << ",\"errors\":" << Json(errors) << "}" << std::endl;
    }
    std::this_thread::sleep_until(start + n * every);
  }
}
