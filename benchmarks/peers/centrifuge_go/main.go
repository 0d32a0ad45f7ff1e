// A server on the Centrifuge library with its in-memory broker: one channel, which anybody may
// subscribe to over WebSocket (JSON), and POST /publish, which sends the body to it.
package main

import (
	"context"
	"io/ioutil"
	"log"
	"net/http"
	"os"

	"github.com/centrifugal/centrifuge"
)

const (
	channel     = "bench"
	maxBodySize = 64 * 1024
)

func main() {
	if len(os.Args) != 2 {
		log.Fatalf("expected one argument, the port, got %d", len(os.Args)-1)
	}
	node, err := newNode()
	if err != nil {
		log.Fatal(err)
	}
	// A pool of write buffers would save memory and cost some speed; it is off by default.
	http.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}))
	http.HandleFunc("/publish", func(w http.ResponseWriter, r *http.Request) {
		body, err := ioutil.ReadAll(http.MaxBytesReader(w, r.Body, maxBodySize))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if _, err := node.Publish(channel, body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}

// newNode returns a running node that lets everybody connect and subscribe.
func newNode() (*centrifuge.Node, error) {
	node, err := centrifuge.New(centrifuge.DefaultConfig)
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "bench"}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, reply centrifuge.SubscribeCallback) {
			reply(centrifuge.SubscribeReply{}, nil)
		})
	})
	return node, node.Run()
}
