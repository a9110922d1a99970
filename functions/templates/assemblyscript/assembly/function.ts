// Publishes an alert when a sensor's reading rises above a limit. What it does and how to configure it
// is in README.md.

import { Batch, DEAD, Entry, Json, MESSAGES, NACK_DEAD, OK, Out } from "./tidegate";

let limit: f64 = 0;
// A sensor is armed again below this.
let rearmBelow: f64 = 0;

/** Takes the configuration; returns what is wrong with it, or null. */
export function configure(config: Json): string | null {
  const wanted = config.get("limit");
  limit = wanted ? wanted.number : NaN;
  if (isNaN(limit)) return "`limit` in the configuration must be a number";
  const hysteresis = config.get("hysteresis");
  rearmBelow = limit - (hysteresis ? hysteresis.number : 0);
  if (isNaN(rearmBelow)) return "`hysteresis` in the configuration must be a number";
  return null;
}

export function handle(batch: Batch, out: Out): i64 {
  if (batch.kind != MESSAGES) return DEAD;
  for (let i = 0; i < batch.count; i++) reading(batch.entry(i), out);
  return OK;
}

function reading(entry: Entry, out: Out): void {
  const payload = Json.parse(entry.text);
  const value = payload ? payload.get("value") : null;
  if (!value || isNaN(value.number)) {
    out.nack(entry, NACK_DEAD, "the payload has no number at `value`");
    return;
  }
  const level = entry.level(1);
  const sensor = level.length ? level : entry.topic;
  // Only sensors above the limit have a key, so the state stays as small as the trouble.
  const wasAbove = !isNaN(out.state.getNumber(sensor));
  if (value.number > limit && !wasAbove) {
    out.state.putNumber(sensor, value.number);
    out.emitFor(entry, "alerts/" + sensor, '{"sensor":' + Json.quote(sensor) + ',"value":' + value.text + "}");
  } else if (value.number < rearmBelow && wasAbove) {
    out.state.delete(sensor);
  }
}
