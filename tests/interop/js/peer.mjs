// A js-libp2p peer as any other program would have it: it finds peers by mDNS, joins the mesh's two topics, identifies
// and pings whom it meets, and sends what the predecessor sent. What it sees it writes to standard output, one JSON
// object a line; it ends when its standard input does. The Go peer beside it does the same.

// Node 20 lacks what the library takes from Node 22.
Promise.withResolvers ??= function () {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

const { createLibp2p } = await import("libp2p");
const { gossipsub } = await import("@libp2p/gossipsub");
const { identify } = await import("@libp2p/identify");
const { mdns } = await import("@libp2p/mdns");
const { noise } = await import("@libp2p/noise");
const { ping } = await import("@libp2p/ping");
const { tcp } = await import("@libp2p/tcp");
const { yamux } = await import("@libp2p/yamux");

const COORDINATION = "bzzz/coordination/v1";
const DISCUSSION = "antennae/meta-discussion/v1";
const INTERVAL_MS = 1000;

const tell = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + "\n");

const node = await createLibp2p({
  addresses: { listen: ["/ip4/0.0.0.0/tcp/0"] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  peerDiscovery: [mdns({ interval: INTERVAL_MS })],
  services: { identify: identify(), ping: ping(), pubsub: gossipsub({ globalSignaturePolicy: "StrictSign" }) },
});
const self = node.peerId.toString();

node.addEventListener("peer:discovery", async ({ detail }) => {
  try {
    await node.dial(detail.multiaddrs);
  } catch (error) {
    tell("undialled", { peer: detail.id.toString(), error: error.message });
  }
});
node.addEventListener("peer:connect", ({ detail }) => tell("connected", { peer: detail.toString() }));
node.addEventListener("peer:identify", async ({ detail }) => {
  const peer = detail.peerId.toString();
  tell("identified", { peer, protocols: detail.protocols });
  try {
    tell("pinged", { peer, ms: await node.services.ping.ping(detail.peerId) });
  } catch (error) {
    tell("unpinged", { peer, error: error.message });
  }
});
node.services.pubsub.addEventListener("message", ({ detail }) => {
  if (detail.type === "signed") {
    const text = new TextDecoder().decode(detail.data);
    tell("message", { topic: detail.topic, peer: detail.from.toString(), text });
  }
});

const envelope = (type, data) => {
  const timestamp = new Date().toISOString();
  return { type, from: self, timestamp, data: { ...data, node_id: self, timestamp } };
};
const availability = () =>
  envelope("availability_broadcast", {
    available_for_work: true,
    current_tasks: 1,
    max_tasks: 7,
    last_activity: new Date().toISOString(),
    status: "working",
  });
const remark = () => envelope("meta_discussion", { message: "hello from js" });

for (const [topic, message] of [[COORDINATION, availability], [DISCUSSION, remark]]) {
  node.services.pubsub.subscribe(topic);
  setInterval(async () => {
    try {
      await node.services.pubsub.publish(topic, new TextEncoder().encode(JSON.stringify(message())));
    } catch (error) {
      // Nobody subscribes yet.
      tell("unpublished", { topic, error: error.message });
    }
  }, INTERVAL_MS);
}
tell("ready", { peer: self, addresses: node.getMultiaddrs().map(String) });

process.stdin.resume();
process.stdin.on("end", async () => {
  await node.stop();
  process.exit(0);
});
