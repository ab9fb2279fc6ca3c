import io.grpc.CallOptions;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.okhttp.OkHttpChannelBuilder;
import io.grpc.stub.ClientCalls;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * Calls the square example over one gRPC channel, as any Java program would, and prints once a second who answered.
 *
 * <pre>Client netty|okhttp TARGET CALLS_PER_SECOND</pre>
 *
 * Messages are written and read by hand, so that nothing is generated. The lines are those of every client in this folder: see clients.go.
 */
public final class Client {
  private final Map<String, Integer> hosts = new TreeMap<>();
  private final Map<String, Integer> errors = new TreeMap<>();
  private int calls;
  private int failed;

  public static void main(String[] args) throws InterruptedException {
    ManagedChannelBuilder<?> builder =
        args[0].equals("okhttp") ? OkHttpChannelBuilder.forTarget(args[1]) : NettyChannelBuilder.forTarget(args[1]);
    new Client().run(builder.usePlaintext().build(), 1_000_000_000L / Integer.parseInt(args[2]));
  }

  private void run(ManagedChannel channel, long every) throws InterruptedException {
    MethodDescriptor<byte[], byte[]> square = MethodDescriptor.<byte[], byte[]>newBuilder()
        .setType(MethodDescriptor.MethodType.UNARY)
        .setFullMethodName("square.SquareService/findSquareUnary")
        .setRequestMarshaller(new Bytes()).setResponseMarshaller(new Bytes()).build();
    long start = System.nanoTime();
    long said = start;
    for (int n = 1;; n++) {
      try {
        byte[] out = ClientCalls.blockingUnaryCall(
            channel, square, CallOptions.DEFAULT.withDeadlineAfter(10, TimeUnit.SECONDS), request(n % 1000));
        hosts.merge(host(out, n % 1000), 1, Integer::sum);
      } catch (StatusRuntimeException | IllegalStateException e) {
        failed++;
        errors.merge(String.valueOf(e.getMessage()), 1, Integer::sum);
      }
      calls++;
      if (System.nanoTime() - said >= 1_000_000_000L) {
        said = System.nanoTime();
        System.out.printf("{\"calls\":%d,\"failed\":%d,\"hosts\":%s,\"errors\":%s}%n", calls, failed, json(hosts), json(errors));
      }
      long wait = start + n * every - System.nanoTime();
      if (wait > 0) {
        TimeUnit.NANOSECONDS.sleep(wait);
      }
    }
  }

  private static String json(Map<String, Integer> counts) {
    return counts.entrySet().stream()
        .map(e -> '"' + e.getKey().replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\s", " ") + "\":" + e.getValue())
        .collect(Collectors.joining(",", "{", "}"));
  }

  private static byte[] request(int n) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    out.write(8);
    for (; n > 127; n >>>= 7) {
      out.write(n & 127 | 128);
    }
    out.write(n);
    return out.toByteArray();
  }

  /** Takes the name of the host from an answer, whose square has to be right. */
  private static String host(byte[] message, int n) {
    String host = "";
    long square = 0;
    int[] at = {0};
    while (at[0] < message.length) {
      long key = number(message, at);
      long value = number(message, at);
      if ((key & 7) == 2) {
        host = new String(message, at[0], (int) value, StandardCharsets.UTF_8);
        at[0] += (int) value;
      } else if (key >> 3 == 2) {
        square = value;
      }
    }
    if (square != (long) n * n) {
      throw new IllegalStateException("the square of " + n + " is not " + square);
    }
    return host;
  }

  private static long number(byte[] message, int[] at) {
    long n = 0;
    for (int shift = 0;; shift += 7) {
      int b = message[at[0]++];
      n |= (long) (b & 127) << shift;
      if (b >= 0) {
        return n;
      }
    }
  }

  /** Leaves messages as they are. */
  private static final class Bytes implements MethodDescriptor.Marshaller<byte[]> {
    @Override
    public InputStream stream(byte[] value) {
      return new ByteArrayInputStream(value);
    }

    @Override
    public byte[] parse(InputStream stream) {
      try {
        return stream.readAllBytes();
      } catch (IOException e) {
        throw new IllegalStateException(e);
      }
    }
  }
}
