// MQTT.js, driven by JSON lines on standard input; what it sees goes to standard output, one JSON
// object a line. The commands and events are in tests/all/clients/driver.rs, and paho_driver.py has
// the same.

const fs = require('fs');
const readline = require('readline');
// Where npm has put it is in NODE_PATH.
const mqtt = require('mqtt');

const clients = {};

function tell(client, event, more) {
  process.stdout.write(JSON.stringify({ client, event, ...more }) + '\n');
}

function pairs(user) {
  return Object.entries(user || {}).flatMap(([key, values]) =>
    [values].flat().map((value) => [key, value]));
}

function connect(name, command) {
  const { transport, port, will } = command;
  const scheme = { tcp: 'mqtt', tls: 'mqtts', ws: 'ws', wss: 'wss' }[transport];
  const path = scheme.startsWith('ws') ? '/mqtt' : '';
  const options = {
    clientId: command.id,
    protocolVersion: command.version,
    clean: command.clean,
    reconnectPeriod: 0,
    // A session lives as long as its client object by default.
    resubscribe: false,
  };
  if (command.version === 5) options.properties = { sessionExpiryInterval: command.expiry };
  if (transport === 'tls' || transport === 'wss') {
    options.ca = fs.readFileSync('ca.pem');
    options.cert = fs.readFileSync('client.pem');
    options.key = fs.readFileSync('client.key');
  }
  if (will) options.will = { ...will, retain: false };
  const client = mqtt.connect(`${scheme}://localhost:${port}${path}`, options);
  clients[name] = client;
  client.on('connect', (packet) => tell(name, 'connected',
    { reason: packet.reasonCode || packet.returnCode || 0, session: packet.sessionPresent }));
  client.on('message', (topic, payload, packet) => {
    const properties = packet.properties || {};
    tell(name, 'message', {
      topic,
      payload: payload.toString(),
      qos: packet.qos,
      retain: packet.retain,
      user: pairs(properties.userProperties),
      expiry: properties.messageExpiryInterval,
      identifiers: [properties.subscriptionIdentifier || []].flat(),
    });
  });
  client.on('error', (error) => tell(name, 'error', { text: String(error) }));
  client.on('close', () => tell(name, 'closed'));
}

function subscribe(name, client, command) {
  const options = { qos: command.qos };
  if (command.identifier) options.properties = { subscriptionIdentifier: command.identifier };
  client.subscribe(command.filter, options, (error, _granted, packet) =>
    tell(name, 'subscribed', { reason: packet ? packet.granted[0] : String(error) }));
}

function publish(name, client, command) {
  const options = { qos: command.qos, retain: command.retain || false };
  if (command.version === 5) {
    options.properties = {};
    if (command.user) options.properties.userProperties = Object.fromEntries(command.user);
    if (command.expiry) options.properties.messageExpiryInterval = command.expiry;
    if (command.alias) options.properties.topicAlias = command.alias;
  }
  client.publish(command.topic, command.payload, options, (error) =>
    tell(name, 'published', { reason: error ? error.code : 0 }));
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const command = JSON.parse(line);
  const name = command.client;
  if (command.do === 'connect') return connect(name, command);
  const client = clients[name];
  if (command.do === 'subscribe') return subscribe(name, client, command);
  if (command.do === 'publish') return publish(name, client, command);
  if (command.do === 'disconnect') return client.end(false);
  // The connection goes without a DISCONNECT.
  return client.stream.destroy();
}).on('close', () => process.exit(0));
