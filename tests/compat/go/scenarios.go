package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

type scenario struct {
	name string
	run  func(*rig, *result)
}

var scenarios = []scenario{
	{"sync", syncSend},
	{"async", asyncSend},
	{"oneway", onewaySend},
	{"batch", batchSend},
	{"tags", tags},
	{"unicode", unicode},
	{"compressed", compressed},
	{"restart", restart},
	{"share", share},
	{"orderly", orderly},
	{"broadcast", broadcast},
	{"from", from},
}

// syncSend: each message is acknowledged with its place and found there.
func syncSend(g *rig, r *result) {
	topic, _ := g.topic()
	p := g.producer()
	got := newCollector()
	g.consume(g.fresh("group"), topic, "*", got.handle)
	list := keys("sync", 100)
	acks := map[string]*primitive.SendResult{}
	for _, key := range list {
		acks[key] = send(p, message(topic, "T", key))
	}
	got.await(list, "the consumer")
	got.exactly(list, r, "the consumer")
	seen := map[string]bool{}
	for key, ack := range acks {
		m := got.first(key)
		r.check(ack.Status == primitive.SendOK, "status of %s: %v", key, ack.Status)
		r.check(ack.MsgID == m.MsgId, "unique key of %s: %s, %s", key, ack.MsgID, m.MsgId)
		r.check(ack.OffsetMsgID == m.OffsetMsgId, "offset id of %s: %s, %s", key, ack.OffsetMsgID, m.OffsetMsgId)
		r.check(ack.QueueOffset == m.QueueOffset, "offset of %s: %d, %d", key, ack.QueueOffset, m.QueueOffset)
		r.check(ack.MessageQueue.QueueId == m.Queue.QueueId, "queue of %s", key)
		seen[ack.OffsetMsgID] = true
	}
	r.check(len(seen) == len(list), "%d distinct offset ids", len(seen))
}

func asyncSend(g *rig, r *result) {
	topic, _ := g.topic()
	p := g.producer()
	got := newCollector()
	g.consume(g.fresh("group"), topic, "*", got.handle)
	list := keys("async", 200)
	var acked sync.WaitGroup
	for _, key := range list {
		acked.Add(1)
		err := p.SendAsync(context.Background(), func(_ context.Context, ack *primitive.SendResult, err error) {
			defer acked.Done()
			r.check(err == nil && ack.Status == primitive.SendOK, "answer to %s: %v %v", key, ack, err)
		}, message(topic, "T", key))
		must(err, "send of "+key)
	}
	acked.Wait()
	got.await(list, "the consumer")
	got.exactly(list, r, "the consumer")
}

func onewaySend(g *rig, r *result) {
	topic, _ := g.topic()
	p := g.producer()
	got := newCollector()
	g.consume(g.fresh("group"), topic, "*", got.handle)
	list := keys("oneway", 100)
	for _, key := range list {
		must(p.SendOneWay(context.Background(), message(topic, "T", key)), "send of "+key)
	}
	got.await(list, "the consumer")
	got.exactly(list, r, "the consumer")
}

// batchSend: many messages in one request; the client acknowledges them with ids joined by commas.
func batchSend(g *rig, r *result) {
	topic, _ := g.topic()
	p := g.producer()
	got := newCollector()
	g.consume(g.fresh("group"), topic, "*", got.handle)
	list := keys("batch", 30)
	batch := make([]*primitive.Message, len(list))
	for i, key := range list {
		batch[i] = message(topic, "T", key)
	}
	ack, err := p.SendSync(context.Background(), batch...)
	must(err, "send of the batch")
	r.check(ack.Status == primitive.SendOK, "status %v", ack.Status)
	got.await(list, "the consumer")
	got.exactly(list, r, "the consumer")
	for i, key := range list {
		m := got.first(key)
		r.check(m.QueueOffset == ack.QueueOffset+int64(i), "%s at offset %d, the first at %d", key, m.QueueOffset,
			ack.QueueOffset)
	}
}

// tags: exactly the wanted messages. That nothing unwanted comes is proved without waiting: a last message that every
// group wants goes to each queue, and a group that has those has passed all before them.
func tags(g *rig, r *result) {
	topic, to := g.topic()
	p := g.producer(manual())
	wants := map[string]string{"A": "A", "A || B": "AB", "*": "ABC"}
	got := map[string]*collector{}
	for expression := range wants {
		got[expression] = newCollector()
		g.consume(g.fresh("group"), topic, expression, got[expression].handle)
	}
	sent := map[string][]string{"A": nil}
	for _, tag := range []string{"A", "B", "C"} {
		sent[tag] = keys(tag, 40)
		spread(p, topic, tag, to, sent[tag])
	}
	last := keys("last", len(to))
	spread(p, topic, "A", to, last)
	for expression, wanted := range wants {
		list := append([]string{}, last...)
		for _, tag := range strings.Split(wanted, "") {
			list = append(list, sent[tag]...)
		}
		got[expression].await(list, "subscription "+expression)
		got[expression].exactly(list, r, "subscription "+expression)
		r.figure("delivered "+expression, len(list))
	}
}

// unicode: what is not ASCII comes back as it went. Not by its tag: this client takes the hash of UTF-8, Apache's
// broker of UTF-16, so that such a subscription gets nothing.
func unicode(g *rig, r *result) {
	topic, _ := g.topic()
	p := g.producer()
	const tag, key, body = "タグ-été-🚀", "schlüssel-клавиша-键-🗝", "Grüße, мир, 世界, 🚀 \x00\x01 end"
	properties := map[string]string{"größe": "ß ä ö ü", "имя": "Ёлка", "名前": "値 と 空白", "rocket🚀": "🚀🌍",
		"json": `{"a":[1,"é"],'b':null}`, "long": strings.Repeat("ü", 8000)}
	got := newCollector()
	g.consume(g.fresh("group"), topic, "*", got.handle)
	m := primitive.NewMessage(topic, []byte(body))
	m.WithTag(tag).WithKeys([]string{key})
	for name, value := range properties {
		m.WithProperty(name, value)
	}
	send(p, m)
	got.await([]string{key}, "the consumer")
	delivery := got.first(key)
	r.check(string(delivery.Body) == body, "body %q", delivery.Body)
	r.check(delivery.GetTags() == tag, "tag %q", delivery.GetTags())
	for name, value := range properties {
		r.check(delivery.GetProperty(name) == value, "property %s: %q", name, delivery.GetProperty(name))
	}
}

// compressed: the client compresses what is long; the broker keeps it as it came, and says so in the system flag.
func compressed(g *rig, r *result) {
	topic, _ := g.topic()
	p := g.producer(producer.WithCompressMsgBodyOverHowmuch(4096))
	got := newCollector()
	g.consume(g.fresh("group"), topic, "*", got.handle)
	body := strings.Repeat("compressible ", 20000)
	m := primitive.NewMessage(topic, []byte(body))
	m.WithKeys([]string{"long"})
	send(p, m)
	short := message(topic, "T", "short")
	send(p, short)
	got.await([]string{"long", "short"}, "the consumer")
	long := got.first("long")
	r.check(string(long.Body) == body, "body of %d bytes, sent %d", len(long.Body), len(body))
	r.check(long.SysFlag&1 == 1, "system flag %d says that it is not compressed", long.SysFlag)
	r.check(got.first("short").SysFlag&1 == 0, "a short body is not compressed")
	r.check(int(long.StoreSize) < len(body)/10, "stored in %d bytes", long.StoreSize)
	r.figure("body", len(body))
	r.figure("stored", long.StoreSize)
}

// restart: a consumer that comes back goes on where it stopped.
func restart(g *rig, r *result) {
	topic, to := g.topic()
	p := g.producer(manual())
	group := g.fresh("group")
	var all []string
	for life := 0; life < 3; life++ {
		list := keys(fmt.Sprintf("life%d", life), 10*len(to))
		spread(p, topic, "T", to, list)
		got := newCollector()
		leave := g.consume(group, topic, "*", got.handle)
		got.await(list, fmt.Sprintf("life %d", life))
		last := keys(fmt.Sprintf("last%d", life), len(to))
		spread(p, topic, "T", to, last)
		got.await(last, fmt.Sprintf("the end of life %d", life))
		list = append(list, last...)
		got.exactly(list, r, fmt.Sprintf("life %d", life))
		// The client marks a message as done a moment after the handler has returned.
		time.Sleep(100 * time.Millisecond)
		leave()
		all = append(all, list...)
	}
	late := newCollector()
	g.consume(g.fresh("group"), topic, "*", late.handle)
	late.await(all, "a new group")
	late.exactly(all, r, "a new group")
}

// share: two members have half of the queues each; when one leaves the other has all.
func share(g *rig, r *result) {
	topic, to := g.topic()
	p := g.producer(manual())
	group := g.fresh("group")
	one, two := newCollector(), newCollector()
	leave := g.consume(group, topic, "*", one.handle)
	spread(p, topic, "T", to, keys("alone", len(to)))
	one.await(keys("alone", len(to)), "the first member, alone")
	start := time.Now()
	g.consume(group, topic, "*", two.handle)
	for round := 0; ; round++ {
		had := two.count()
		probe := keys(fmt.Sprintf("probe%d", round), len(to))
		spread(p, topic, "T", to, probe)
		await(func() bool {
			for _, key := range probe {
				if !one.hasAll([]string{key}) && !two.hasAll([]string{key}) {
					return false
				}
			}
			return true
		}, "a round of probes")
		if two.count()-had == len(to)/2 {
			break
		}
		if time.Since(start) > patience {
			panic("the members never shared the queues half and half")
		}
	}
	r.figure("shared_ms", time.Since(start).Milliseconds())
	start = time.Now()
	leave()
	orphans := keys("orphan", 2*len(to))
	spread(p, topic, "T", to, orphans)
	two.await(orphans, "the member that stays")
	r.figure("take_over_ms", time.Since(start).Milliseconds())
}

// orderly: each queue in its order, and handed over in order when a member leaves and another comes. Two members at a
// time are not judged: this client does not give back the lock of a queue that a rebalance takes from it, so the other
// has to wait until the lock expires, a minute later; with Apache's broker as well.
func orderly(g *rig, r *result) {
	topic, to := g.topic()
	p := g.producer(manual())
	group := g.fresh("group")
	var mutex sync.Mutex
	taken := map[string][]string{}
	holder := map[string]string{}
	count := map[string]int{}
	member := func(name string) handler {
		return func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			for _, m := range messages {
				queue := queueName(m.Queue)
				mutex.Lock()
				r.check(holder[queue] == "", "%s held by %s and %s", queue, name, holder[queue])
				holder[queue] = name
				mutex.Unlock()
				time.Sleep(2 * time.Millisecond)
				mutex.Lock()
				holder[queue] = ""
				taken[queue] = append(taken[queue], strings.TrimSpace(m.GetKeys()))
				count[name]++
				mutex.Unlock()
			}
			return consumer.ConsumeSuccess, nil
		}
	}
	total := func() (sum int) {
		mutex.Lock()
		defer mutex.Unlock()
		for _, list := range taken {
			sum += len(list)
		}
		return sum
	}
	leave := g.consume(group, topic, "*", member("one"), consumer.WithConsumerOrder(true))
	const half = 30
	for i := 0; i < half; i++ {
		for _, queue := range to {
			m := message(topic, "T", fmt.Sprint(i))
			m.Queue = queue
			send(p, m)
		}
	}
	await(func() bool { return total() >= half*len(to) }, "the first half, by the first member")
	time.Sleep(100 * time.Millisecond) // the client marks a message as done a moment after the handler has returned
	leave()
	start := time.Now()
	g.consume(group, topic, "*", member("two"), consumer.WithConsumerOrder(true))
	for i := half; i < 2*half; i++ {
		for _, queue := range to {
			m := message(topic, "T", fmt.Sprint(i))
			m.Queue = queue
			send(p, m)
		}
	}
	await(func() bool { return total() >= 2*half*len(to) }, "the second half, by the second member")
	r.figure("take_over_ms", time.Since(start).Milliseconds())
	mutex.Lock()
	defer mutex.Unlock()
	for _, queue := range to {
		list := taken[queueName(queue)]
		r.check(len(list) == 2*half, "%s: %d deliveries", queueName(queue), len(list))
		for i, key := range list {
			if key != fmt.Sprint(i) {
				r.check(false, "%s: %s came as number %d", queueName(queue), key, i)
				break
			}
		}
	}
	r.figure("one", count["one"])
	r.figure("two", count["two"])
}

// broadcast: every member gets every message.
func broadcast(g *rig, r *result) {
	topic, to := g.topic()
	p := g.producer(manual())
	group := g.fresh("group")
	members := []*collector{newCollector(), newCollector()}
	for _, c := range members {
		g.consume(group, topic, "*", c.handle, consumer.WithConsumerModel(consumer.BroadCasting))
	}
	list := keys("all", 5*len(to))
	spread(p, topic, "T", to, list)
	for i, c := range members {
		c.await(list, fmt.Sprintf("member %d", i))
		c.exactly(list, r, fmt.Sprintf("member %d", i))
	}
}

// from: where a new group starts. In a young queue (nothing deleted yet, all in memory) the broker answers offset 0 to
// a group without offsets, whatever the client wants; members of a broadcast do not ask and start where they want.
func from(g *rig, r *result) {
	topic, to := g.topic()
	p := g.producer(manual())
	early := keys("early", 5*len(to))
	spread(p, topic, "T", to, early)
	time.Sleep(2100 * time.Millisecond) // the time stamp that a client can say has seconds
	between := time.Now().UTC().Format("20060102150405")
	time.Sleep(1100 * time.Millisecond)
	middle := keys("middle", 5*len(to))
	spread(p, topic, "T", to, middle)
	alone := consumer.WithConsumerModel(consumer.BroadCasting)
	starts := map[string][]consumer.Option{
		"first": {alone, consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset)},
		"timestamp": {alone, consumer.WithConsumeFromWhere(consumer.ConsumeFromTimestamp),
			consumer.WithConsumeTimestamp(between)},
		"last":            {alone, consumer.WithConsumeFromWhere(consumer.ConsumeFromLastOffset)},
		"last of a group": {consumer.WithConsumeFromWhere(consumer.ConsumeFromLastOffset)},
	}
	got := map[string]*collector{}
	for name, options := range starts {
		got[name] = newCollector()
		g.consume(g.fresh("group"), topic, "*", got[name].handle, options...)
	}
	got["first"].await(middle, "first")
	got["timestamp"].await(middle, "timestamp")
	got["last of a group"].await(middle, "last of a group")
	// Who starts at the end can't be seen to have started: send until it has got something from every queue.
	var late []string
	reached := map[int]bool{}
	await(func() bool {
		more := keys(fmt.Sprintf("late%d", len(late)), len(to))
		spread(p, topic, "T", to, more)
		late = append(late, more...)
		time.Sleep(50 * time.Millisecond)
		for i, key := range late {
			if got["last"].hasAll([]string{key}) {
				reached[i%len(to)] = true
			}
		}
		return len(reached) == len(to)
	}, "last gets new messages of every queue")
	everything := append(append(append([]string{}, early...), middle...), late...)
	for name, wanted := range map[string][]string{"first": everything, "last of a group": everything,
		"timestamp": append(append([]string{}, middle...), late...)} {
		got[name].await(wanted, name)
		got[name].exactly(wanted, r, name)
	}
	for _, key := range append(early, middle...) {
		r.check(!got["last"].hasAll([]string{key}), "last got %s", key)
	}
}
