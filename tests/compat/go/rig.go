package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

const (
	queues   = 4
	patience = 45 * time.Second // what must happen may take so long; the client rebalances every 20 s
)

var (
	creating sync.Mutex // brokers make one topic at a time anyway
	serial   atomic.Int64
	started  = time.Now().UnixMilli()
)

// rig makes stock clients for one scenario and ends them with it. Each has an instance name, so it has connections of
// its own as if it were another process; each scenario has topics and groups that nobody used before.
type rig struct {
	name    string
	namesrv []string
	brokers map[string]string
	result  *result
	open    []func() error
}

func newRig(name string, namesrv []string, brokers map[string]string, r *result) *rig {
	return &rig{name: name, namesrv: namesrv, brokers: brokers, result: r}
}

func must(err error, what string) {
	if err != nil {
		panic(fmt.Sprintf("%s: %v", what, err))
	}
}

func await(condition func() bool, what string) {
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			panic(fmt.Sprintf("not within %v: %s", patience, what))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (g *rig) fresh(what string) string {
	return fmt.Sprintf("go-%s-%s-%d-%d", g.name, what, started, serial.Add(1))
}

func (g *rig) close() {
	for i := len(g.open) - 1; i >= 0; i-- {
		g.result.check(g.open[i]() == nil, "a client does not shut down")
	}
}

func (g *rig) producer(options ...producer.Option) rocketmq.Producer {
	all := append([]producer.Option{
		producer.WithNsResolver(primitive.NewPassthroughResolver(g.namesrv)),
		producer.WithGroupName(g.fresh("producers")),
		producer.WithInstanceName(g.fresh("instance")),
		producer.WithSendMsgTimeout(10 * time.Second),
		producer.WithRetry(0),
	}, options...)
	p, err := rocketmq.NewProducer(all...)
	must(err, "new producer")
	must(p.Start(), "start of the producer")
	g.open = append(g.open, p.Shutdown)
	return p
}

func newAdmin(namesrv ...string) (a admin.Admin) {
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(namesrv)))
	must(err, "new admin")
	return a
}

// topic creates one with four queues on every broker and gives its queues in order, once every name server tells of them.
func (g *rig) topic() (string, []*primitive.MessageQueue) {
	topic := g.fresh("topic")
	a := newAdmin(g.namesrv...)
	defer a.Close()
	for broker, address := range g.brokers {
		// The admin waits for 5 s; a broker in a JVM that has just started takes longer. To ask again does no harm.
		await(func() bool {
			creating.Lock()
			defer creating.Unlock()
			return a.CreateTopic(context.Background(), admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate(address),
				admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues)) == nil
		}, "topic on "+broker)
	}
	var found []*primitive.MessageQueue
	for _, namesrv := range g.namesrv {
		await(func() (there bool) {
			found, there = g.route(namesrv, topic)
			return there
		}, "route of "+topic+" at "+namesrv)
	}
	sort.Slice(found, func(i, k int) bool { return queueName(found[i]) < queueName(found[k]) })
	return topic, found
}

// route asks one name server, by an admin of its own: an admin keeps the first answer for ever.
func (g *rig) route(namesrv, topic string) ([]*primitive.MessageQueue, bool) {
	a := newAdmin(namesrv)
	defer a.Close()
	found, err := a.FetchPublishMessageQueues(context.Background(), topic)
	return found, err == nil && len(found) == queues*len(g.brokers)
}

func queueName(q *primitive.MessageQueue) string {
	return fmt.Sprintf("%s/%d", q.BrokerName, q.QueueId)
}

type handler func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error)

// consume starts a push consumer at the first message (options may say otherwise); it is ended with the rig, or before
// by the function that it gives.
func (g *rig) consume(group, topic, tags string, handle handler, options ...consumer.Option) (leave func()) {
	all := append([]consumer.Option{
		consumer.WithNsResolver(primitive.NewPassthroughResolver(g.namesrv)),
		consumer.WithGroupName(group),
		consumer.WithInstance(g.fresh("instance")),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	}, options...)
	c, err := rocketmq.NewPushConsumer(all...)
	must(err, "new consumer")
	selector := consumer.MessageSelector{Type: consumer.TAG, Expression: tags}
	must(c.Subscribe(topic, selector, handle), "subscribe")
	must(c.Start(), "start of the consumer")
	var once sync.Once
	leave = func() { once.Do(func() { must(c.Shutdown(), "shutdown of the consumer") }) }
	g.open = append(g.open, func() error { leave(); return nil })
	return leave
}

func message(topic, tag, key string) *primitive.Message {
	m := primitive.NewMessage(topic, []byte("body of "+key))
	m.WithKeys([]string{key})
	if tag != "" {
		m.WithTag(tag)
	}
	return m
}

func keys(prefix string, count int) []string {
	list := make([]string, count)
	for i := range list {
		list[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return list
}

func send(p rocketmq.Producer, m *primitive.Message) *primitive.SendResult {
	ack, err := p.SendSync(context.Background(), m)
	must(err, "send of "+m.GetKeys())
	return ack
}

// spread sends the keys to the queues in turn. The producer has a manual selector.
func spread(p rocketmq.Producer, topic, tag string, to []*primitive.MessageQueue, list []string) {
	for i, key := range list {
		m := message(topic, tag, key)
		m.Queue = to[i%len(to)]
		send(p, m)
	}
}

func manual() producer.Option {
	return producer.WithQueueSelector(producer.NewManualQueueSelector())
}

// collector keeps every delivery of one consumer or group, by key.
type collector struct {
	mutex sync.Mutex
	byKey map[string][]*primitive.MessageExt
}

func newCollector() *collector {
	return &collector{byKey: map[string][]*primitive.MessageExt{}}
}

func (c *collector) handle(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, m := range messages {
		key := strings.TrimSpace(m.GetKeys())
		c.byKey[key] = append(c.byKey[key], m)
	}
	return consumer.ConsumeSuccess, nil
}

func (c *collector) count() int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return len(c.byKey)
}

func (c *collector) hasAll(list []string) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, key := range list {
		if len(c.byKey[key]) == 0 {
			return false
		}
	}
	return true
}

func (c *collector) first(key string) *primitive.MessageExt {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.byKey[key][0]
}

func (c *collector) await(list []string, who string) {
	await(func() bool { return c.hasAll(list) }, fmt.Sprintf("%d messages for %s", len(list), who))
}

// exactly checks that the wanted keys came, each once with its body, and no others.
func (c *collector) exactly(wanted []string, r *result, who string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	r.check(len(c.byKey) == len(wanted), "%s got %d keys, wanted %d", who, len(c.byKey), len(wanted))
	for _, key := range wanted {
		deliveries := c.byKey[key]
		r.check(len(deliveries) == 1, "%s got %s %d times", who, key, len(deliveries))
		for _, m := range deliveries {
			r.check(string(m.Body) == "body of "+key, "%s: body of %s", who, key)
		}
	}
}
