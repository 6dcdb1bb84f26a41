import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/** A payment application in Java 16 or newer: java Pay.java /run/posagent/api.sock, a customer a line of its input. */
public class Pay {
    static String path, held = "";
    static SocketChannel line;
    static Selector answers;
    static int seq;

    /** The agent is away or busy: payments go on, but not on the data of a version that may be rolled back. */
    static boolean unheard() {
        return !new java.io.File("/run/posagent-data/current.trial").exists();
    }

    /** Say what is held from now on. False where the agent says that a restart has begun, and during a trial. */
    static synchronized boolean hold(String holds, int payments) {
        held = holds;
        try {
            if (line == null) { // the agent was away: connect again
                line = SocketChannel.open(UnixDomainSocketAddress.of(path));
                line.configureBlocking(false);
                line.register(answers = Selector.open(), SelectionKey.OP_READ);
            }
            ByteBuffer in = ByteBuffer.allocate(8192), out = StandardCharsets.UTF_8.encode(
                "{\"verb\":\"payment\",\"args\":{\"name\":\"java-pay\",\"lease_s\":60,\"holds\":[" + held
                + "],\"payments\":" + payments + ",\"seq\":" + ++seq + "}}\n");
            line.write(out);
            if (out.hasRemaining()) throw new IOException("the agent does not read");
            while (in.hasRemaining() && answers.select(200) > 0) { // the answer to this very line
                answers.selectedKeys().clear();
                if (line.read(in) < 0) throw new IOException("the agent is gone");
                String told = new String(in.array(), 0, in.position(), StandardCharsets.UTF_8);
                int found = told.indexOf("\"seq\":" + seq + "}");
                if (found >= 0) return told.indexOf("\"may_hold\":false", told.lastIndexOf('\n', found) + 1) < 0;
            }
        } catch (IOException away) {
            hangUp();
        }
        return unheard();
    }

    static synchronized void renew() {
        hold(held, 0);
    }

    static void hangUp() {
        try {
            if (line != null) line.close();
            if (answers != null) answers.close();
        } catch (IOException ignored) { // closed all the same
        }
        line = null;
    }

    public static void main(String[] words) throws IOException {
        path = words[0];
        Executors.newSingleThreadScheduledExecutor(task -> {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        }).scheduleAtFixedRate(Pay::renew, 0, 20, TimeUnit.SECONDS);
        while (System.in.read() >= 0) {
            if (hold("{\"reason\":\"transaction\"}", 0)) System.out.println("paid"); // here the payment is taken
            else System.out.println("please wait, the terminal is being updated");
            hold("", 1);
        }
    }
}
