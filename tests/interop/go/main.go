// A go-libp2p peer as any other program would have it: it finds peers by mDNS, joins the mesh's two topics, identifies
// and pings whom it meets, and sends what the predecessor sent. What it sees it writes to standard output, one JSON
// object a line; it ends when its standard input does. The JavaScript peer beside it does the same.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	libp2p "github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

const (
	coordination = "bzzz/coordination/v1"
	discussion   = "antennae/meta-discussion/v1"
	interval     = time.Second
)

var writing sync.Mutex

func tell(event string, fields map[string]any) {
	fields["event"] = event
	line, err := json.Marshal(fields)
	must(err)
	writing.Lock()
	defer writing.Unlock()
	fmt.Println(string(line))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// dialler connects to every peer that mDNS tells of.
type dialler struct {
	ctx  context.Context
	host host.Host
}

func (d dialler) HandlePeerFound(found peer.AddrInfo) {
	if err := d.host.Connect(d.ctx, found); err != nil {
		tell("undialled", map[string]any{"peer": found.ID.String(), "error": err.Error()})
	}
}

func main() {
	ctx := context.Background()
	h, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/0.0.0.0/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.DisableRelay(),
		libp2p.UserAgent("interop-go"),
	)
	must(err)
	follow(ctx, h)
	gossip, err := pubsub.NewGossipSub(ctx, h, pubsub.WithMessageSignaturePolicy(pubsub.StrictSign))
	must(err)
	must(mdns.NewMdnsService(h, "", dialler{ctx, h}).Start())
	addresses := []string{}
	for _, address := range h.Addrs() {
		addresses = append(addresses, address.String())
	}
	tell("ready", map[string]any{"peer": h.ID().String(), "addresses": addresses})
	for name, message := range map[string]func(string) map[string]any{coordination: availability, discussion: remark} {
		topic, err := gossip.Join(name)
		must(err)
		subscription, err := topic.Subscribe()
		must(err)
		go read(ctx, h, subscription)
		go speak(ctx, h, topic, message)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func follow(ctx context.Context, h host.Host) {
	h.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		tell("connected", map[string]any{"peer": c.RemotePeer().String()})
	}})
	identified, err := h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	must(err)
	go func() {
		for found := range identified.Out() {
			about := found.(event.EvtPeerIdentificationCompleted)
			protocols := []string{}
			for _, protocol := range about.Protocols {
				protocols = append(protocols, string(protocol))
			}
			tell("identified", map[string]any{"peer": about.Peer.String(), "protocols": protocols})
			answer := <-ping.Ping(ctx, h, about.Peer)
			if answer.Error != nil {
				tell("unpinged", map[string]any{"peer": about.Peer.String(), "error": answer.Error.Error()})
				continue
			}
			tell("pinged", map[string]any{"peer": about.Peer.String(), "ms": answer.RTT.Seconds() * 1000})
		}
	}()
}

func read(ctx context.Context, h host.Host, subscription *pubsub.Subscription) {
	for {
		message, err := subscription.Next(ctx)
		must(err)
		if message.GetFrom() != h.ID() {
			tell("message", map[string]any{
				"topic": subscription.Topic(), "peer": message.GetFrom().String(), "text": string(message.Data),
			})
		}
	}
}

func speak(ctx context.Context, h host.Host, topic *pubsub.Topic, message func(string) map[string]any) {
	for {
		line, err := json.Marshal(message(h.ID().String()))
		must(err)
		must(topic.Publish(ctx, line))
		time.Sleep(interval)
	}
}

func envelope(kind string, from string, data map[string]any) map[string]any {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	data["timestamp"] = now
	return map[string]any{"type": kind, "from": from, "timestamp": now, "data": data}
}

func availability(from string) map[string]any {
	return envelope("availability_broadcast", from, map[string]any{
		"node_id": from, "available_for_work": true, "current_tasks": 1, "max_tasks": 7,
		"last_activity": time.Now().UTC().Format(time.RFC3339Nano), "status": "working",
	})
}

func remark(from string) map[string]any {
	return envelope("meta_discussion", from, map[string]any{"node_id": from, "message": "hello from go"})
}
