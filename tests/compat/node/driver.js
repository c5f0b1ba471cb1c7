'use strict';

// Runs scenarios with the stock Node client (ali-ons) against a cluster that is already up.
//
//   node driver.js HOST:PORT[;HOST:PORT] NAME=HOST:PORT[,…] SCENARIO[,SCENARIO]|all|list
//
// One JSON line per scenario (ok, figures, reasons), as the Java driver prints them; exit code 0 = all hold. They run
// side by side, each with topics, groups and connections of its own.

const { Consumer, Message, Producer } = require('ali-ons');

const QUEUES = 4;
const PATIENCE_MS = 45000; // how long what must happen may take
const MAX_REASONS = 20;
const RUN = Date.now();
const [ namesrv, brokerList, asked ] = process.argv.slice(2);
const brokers = new Map(brokerList.split(',').map(pair => pair.split('=')));
let serial = 0;

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

async function until(condition, what) {
  for (const end = Date.now() + PATIENCE_MS; !condition();) {
    if (Date.now() > end) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
    await sleep(5);
  }
}

function keys(prefix, count) {
  return Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
}

// Makes stock clients for one scenario and ends them with it.
class Rig {
  constructor(name) {
    this.name = name;
    this.figures = {};
    this.reasons = [];
    this.open = [];
  }

  check(holds, reason) {
    if (!holds) this.reasons.push(reason);
  }

  same(wanted, got, what) {
    this.check(wanted === got, `${what}: wanted ${wanted}, got ${got}`);
  }

  fresh(what) {
    return `node-${this.name}-${what}-${RUN}-${++serial}`;
  }

  options(more) {
    const quiet = { info() {}, debug() {}, warn() {}, error() {} };
    const httpclient = { request() { throw new Error('name servers are given, nobody is asked for them'); } };
    return { nameSrv: namesrv.split(';'), httpclient, clientIP: '127.0.0.1', instanceName: this.fresh('instance'), logger: quiet,
      rebalanceInterval: 1000, ...more };
  }

  watch(client) {
    // Errors come as events. While a client is being closed its parked polls fail, which is no one's fault; and that
    // a group has no offset yet is how the broker is asked to answer.
    client.on('error', error => {
      if (!client.closing && !this.closing && !/boot first/.test(error.message)) this.reasons.push(`client: ${error}`);
    });
    this.open.push(client);
    return client;
  }

  async close(client) {
    client.closing = true;
    this.open = this.open.filter(other => other !== client);
    await client.close();
  }

  async end() {
    this.closing = true;
    for (const client of [ ...this.open ].reverse()) await this.close(client);
  }

  async producer(more) {
    const producer = this.watch(new Producer(this.options({ producerGroup: this.fresh('producers'), ...more })));
    await producer.ready();
    return producer;
  }

  // The client's public face cannot make topics; what is below it can.
  async topic(producer) {
    const topic = this.fresh('topic');
    const config = { topicName: topic, readQueueNums: QUEUES, writeQueueNums: QUEUES, perm: 6, topicSysFlag: 0,
      topicFilterType: 'SINGLE_TAG', order: false };
    for (const address of brokers.values()) {
      await producer._mqClient.createTopic(address, 'TBW102', config, 10000);
    }
    let count = 0;
    for (const end = Date.now() + PATIENCE_MS; count !== QUEUES * brokers.size;) {
      if (Date.now() > end) throw new Error(`route of ${topic}: ${count} queues`);
      const route = await producer._mqClient.getTopicRouteInfoFromNameServer(topic, 3000).catch(() => null);
      count = route ? route.queueDatas.reduce((sum, data) => sum + data.writeQueueNums, 0) : 0;
      await sleep(5);
    }
    return topic;
  }

  // A push consumer from the first message on; `got` maps each key to its deliveries.
  async consume(group, topic, tags, more) {
    const consumer = this.watch(new Consumer(this.options({ consumerGroup: group,
      consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET', ...more })));
    consumer.got = new Map();
    consumer.subscribe(topic, tags, async message => {
      consumer.got.set(message.keys, [ ...(consumer.got.get(message.keys) || []), message ]);
    });
    await consumer.ready();
    return consumer;
  }

  async gets(consumer, wanted, who) {
    await until(() => wanted.every(key => consumer.got.has(key)), `${wanted.length} messages for ${who}`);
  }

  // Exactly the wanted keys, each once, with the body of its key.
  exactly(consumer, wanted, who) {
    this.same(wanted.length, consumer.got.size, `keys of ${who}`);
    for (const key of wanted) {
      const deliveries = consumer.got.get(key) || [];
      this.same(1, deliveries.length, `deliveries of ${key} to ${who}`);
      for (const message of deliveries) this.same(`body of ${key}`, String(message.body), `body at ${who}`);
    }
  }
}

function message(topic, tag, key) {
  const made = new Message(topic, tag, `body of ${key}`);
  made.keys = [ key ];
  return made;
}

// One after the other: the client goes from queue to queue, so a multiple of all queues is the same for each.
async function sendAll(producer, topic, tag, list) {
  const acks = [];
  for (const key of list) acks.push(await producer.send(message(topic, tag, key)));
  return acks;
}

const allQueues = () => QUEUES * brokers.size;

const scenarios = {
  async sync(rig) {
    const producer = await rig.producer();
    const topic = await rig.topic(producer);
    const consumer = await rig.consume(rig.fresh('group'), topic, '*');
    const list = keys('sync', 80);
    const acks = await sendAll(producer, topic, 'T', list);
    await rig.gets(consumer, list, 'the consumer');
    rig.exactly(consumer, list, 'the consumer');
    list.forEach((key, i) => {
      const [ delivery ] = consumer.got.get(key);
      rig.same('SEND_OK', acks[i].sendStatus, `status of ${key}`);
      rig.same(acks[i].msgId, delivery.msgId, `offset id of ${key}`);
      rig.same(acks[i].queueOffset, delivery.queueOffset, `offset of ${key}`);
      rig.same(Number(acks[i].messageQueue.queueId), delivery.queueId, `queue of ${key}`);
    });
    rig.same(list.length, new Set(acks.map(ack => ack.msgId)).size, 'distinct offset ids');
  },

  // Many sends on their way at once.
  async async(rig) {
    const producer = await rig.producer();
    const topic = await rig.topic(producer);
    const consumer = await rig.consume(rig.fresh('group'), topic, '*');
    const list = keys('async', 200);
    const acks = await Promise.all(list.map(key => producer.send(message(topic, 'T', key))));
    rig.check(acks.every(ack => ack.sendStatus === 'SEND_OK'), 'every send is acknowledged');
    await rig.gets(consumer, list, 'the consumer');
    rig.exactly(consumer, list, 'the consumer');
  },

  // Exactly the wanted messages: a last one that every group wants, on each queue, proves that nothing else comes.
  async tags(rig) {
    const producer = await rig.producer();
    const topic = await rig.topic(producer);
    const wants = { A: [ 'A' ], 'A || B': [ 'A', 'B' ], '*': [ 'A', 'B', 'C' ] };
    const sent = {};
    for (const tag of [ 'A', 'B', 'C' ]) await sendAll(producer, topic, tag, sent[tag] = keys(tag, 5 * allQueues()));
    const last = keys('last', allQueues());
    await sendAll(producer, topic, 'A', last);
    for (const [ expression, tags ] of Object.entries(wants)) {
      const consumer = await rig.consume(rig.fresh('group'), topic, expression);
      const list = [ ...last, ...tags.flatMap(tag => sent[tag]) ];
      await rig.gets(consumer, list, `subscription ${expression}`);
      rig.exactly(consumer, list, `subscription ${expression}`);
    }
  },

  async unicode(rig) {
    const producer = await rig.producer();
    const topic = await rig.topic(producer);
    const tag = 'タグ-été';
    const all = await rig.consume(rig.fresh('all'), topic, '*');
    const tagged = await rig.consume(rig.fresh('tagged'), topic, tag);
    const properties = { größe: 'ß ä ö ü', имя: 'Ёлка', 名前: '値 と 空白', 'rocket🚀': '🚀🌍',
      json: '{"a":[1,"é"],\'b\':null}', long: 'ü'.repeat(8000) };
    const body = 'Grüße, мир, 世界, 🚀 \u0000\u0001 end';
    const key = 'schlüssel-клавиша-键-🗝';
    const made = new Message(topic, tag, body);
    made.keys = [ key ];
    Object.assign(made.properties, properties);
    await producer.send(made);
    for (const consumer of [ all, tagged ]) {
      await rig.gets(consumer, [ key ], consumer.consumerGroup);
      const [ delivery ] = consumer.got.get(key);
      rig.same(body, String(delivery.body), 'body');
      rig.same(tag, delivery.tags, 'tag');
      for (const [ name, value ] of Object.entries(properties)) {
        rig.same(value, delivery.properties[name], `property ${name}`);
      }
    }
  },

  async compressed(rig) {
    const producer = await rig.producer();
    const topic = await rig.topic(producer);
    const consumer = await rig.consume(rig.fresh('group'), topic, '*');
    const body = 'compressible '.repeat(5000);
    const made = new Message(topic, 'T', body);
    made.keys = [ 'long' ];
    await producer.send(made);
    await sendAll(producer, topic, 'T', [ 'short' ]);
    await rig.gets(consumer, [ 'long', 'short' ], 'the consumer');
    const [ delivery ] = consumer.got.get('long');
    rig.check(String(delivery.body) === body, 'the body comes back whole');
    rig.check(delivery.storeSize < body.length / 10, `stored in ${delivery.storeSize} bytes`);
    Object.assign(rig.figures, { body: body.length, stored: delivery.storeSize });
  },

  // A consumer that comes back goes on where it stopped. This client commits −1 for a queue of which it had nothing.
  async restart(rig) {
    const producer = await rig.producer();
    const topic = await rig.topic(producer);
    const group = rig.fresh('group');
    for (let life = 0; life < 3; life++) {
      const list = keys(`life${life}`, life === 0 ? 3 : 2 * allQueues());
      await sendAll(producer, topic, 'T', list);
      const consumer = await rig.consume(group, topic, '*');
      await rig.gets(consumer, list, `life ${life}`);
      await sleep(50); // the client counts a message as done a moment after the handler has returned
      await rig.close(consumer);
      rig.exactly(consumer, list, `life ${life}`);
    }
  },

  // Two members have half of the queues each; when one leaves the other has all.
  async share(rig) {
    const producer = await rig.producer();
    const topic = await rig.topic(producer);
    const group = rig.fresh('group');
    const one = await rig.consume(group, topic, '*');
    const two = await rig.consume(group, topic, '*');
    const start = Date.now();
    for (let round = 0, had = -1; had !== allQueues() / 2; round++) {
      if (Date.now() > start + PATIENCE_MS) throw new Error('the members never shared the queues half and half');
      const before = two.got.size;
      const probe = keys(`probe${round}`, allQueues());
      await sendAll(producer, topic, 'T', probe);
      await until(() => probe.every(key => one.got.has(key) || two.got.has(key)), 'a round of probes');
      had = two.got.size - before;
    }
    rig.figures.shared_ms = Date.now() - start;
    const left = Date.now();
    await rig.close(one);
    const orphans = keys('orphan', 2 * allQueues());
    await sendAll(producer, topic, 'T', orphans);
    await rig.gets(two, orphans, 'the member that stays');
    rig.figures.take_over_ms = Date.now() - left;
  },

  async broadcast(rig) {
    const producer = await rig.producer();
    const topic = await rig.topic(producer);
    const group = rig.fresh('group');
    const members = [ await rig.consume(group, topic, '*', { isBroadcast: true }),
      await rig.consume(group, topic, '*', { isBroadcast: true }) ];
    const list = keys('all', 3 * allQueues());
    await sendAll(producer, topic, 'T', list);
    for (const member of members) {
      await rig.gets(member, list, 'a member');
      rig.exactly(member, list, 'a member');
    }
  },

  // Where a new group starts. In a young queue the broker answers offset 0 to a group without offsets, whatever the
  // client wants; members of a broadcast do not ask, and start where they want.
  async from(rig) {
    const producer = await rig.producer();
    const topic = await rig.topic(producer);
    const early = keys('early', 2 * allQueues());
    await sendAll(producer, topic, 'T', early);
    await sleep(2100); // the time stamp that a client can say has seconds
    const between = new Date().toISOString().replace(/\D/g, '').slice(0, 14);
    await sleep(1100);
    const middle = keys('middle', 2 * allQueues());
    await sendAll(producer, topic, 'T', middle);
    const start = (where, more) => rig.consume(rig.fresh('group'), topic, '*', { consumeFromWhere: where, ...more });
    const first = await start('CONSUME_FROM_FIRST_OFFSET', { isBroadcast: true });
    const since = await start('CONSUME_FROM_TIMESTAMP', { isBroadcast: true, consumeTimestamp: between });
    const last = await start('CONSUME_FROM_LAST_OFFSET', { isBroadcast: true });
    const young = await start('CONSUME_FROM_LAST_OFFSET');
    const late = [];
    const reached = new Set();
    for (const end = Date.now() + PATIENCE_MS; reached.size !== allQueues();) {
      if (Date.now() > end) throw new Error('who starts at the end never gets new messages of every queue');
      late.push(...keys(`late${late.length}`, allQueues()));
      await sendAll(producer, topic, 'T', late.slice(-allQueues()));
      await sleep(50);
      late.forEach((key, i) => last.got.has(key) && reached.add(i % allQueues()));
    }
    for (const [ who, consumer, list ] of [ [ 'first', first, [ ...early, ...middle, ...late ] ],
      [ 'timestamp', since, [ ...middle, ...late ] ], [ 'last of a group', young, [ ...early, ...middle, ...late ] ] ]) {
      await rig.gets(consumer, list, who);
      rig.exactly(consumer, list, who);
    }
    rig.check([ ...early, ...middle ].every(key => !last.got.has(key)), 'last gets nothing from before');
  },
};

async function run(name) {
  const rig = new Rig(name);
  const started = Date.now();
  try {
    await scenarios[name](rig);
  } catch (error) {
    rig.reasons.push(error.stack.split('\n').slice(0, 3).join(' '));
  }
  const line = { scenario: name, ok: rig.reasons.length === 0, took_ms: Date.now() - started, ...rig.figures };
  if (!line.ok) Object.assign(line, { reasons: rig.reasons.slice(0, MAX_REASONS), reasons_count: rig.reasons.length });
  console.log(JSON.stringify(line));
  await rig.end().catch(() => {});
  return line.ok;
}

async function main() {
  if (asked === 'list') {
    console.log(Object.keys(scenarios).join('\n'));
    return;
  }
  const names = asked === 'all' ? Object.keys(scenarios) : asked.split(',');
  const held = await Promise.all(names.map(run));
  // The client leaves timers behind; our verdict must not wait for them.
  process.exit(held.every(Boolean) ? 0 : 1);
}

main();
