/* Publishes an alert when a sensor's reading rises above a limit. What it does and how to configure it
 * is in README.md. */
#include "tidegate.h"

static double limit;
/* A sensor is armed again below this. */
static double rearm_below;

static bool configure(tg_text config) {
    tg_text value;
    double hysteresis = 0;
    if (!tg_json_get(config, TG("limit"), &value) || !tg_json_number(value, &limit)) {
        tg_log(TG_ERROR, TG("`limit` in the configuration must be a number"));
        return false;
    }
    if (tg_json_get(config, TG("hysteresis"), &value) && !tg_json_number(value, &hysteresis)) {
        tg_log(TG_ERROR, TG("`hysteresis` in the configuration must be a number"));
        return false;
    }
    rearm_below = limit - hysteresis;
    return true;
}

static void alert(const tg_entry *entry, tg_text sensor, tg_text value) {
    tg_line topic = {0}, payload = {0};
    tg_add(&topic, TG("alerts/"));
    tg_add(&topic, sensor);
    tg_add(&payload, TG("{\"sensor\":"));
    tg_add_json(&payload, sensor);
    tg_add(&payload, TG(",\"value\":"));
    tg_add(&payload, value);
    tg_add(&payload, TG("}"));
    tg_emit_for(entry, tg_text_of(&topic), tg_text_of(&payload));
    tg_free(topic.at);
    tg_free(payload.at);
}

static void reading(const tg_entry *entry) {
    tg_text value;
    double number;
    if (!tg_json_get(entry->payload, TG("value"), &value) || !tg_json_number(value, &number)) {
        tg_nack(entry, TG_NACK_DEAD, TG("the payload has no number at `value`"));
        return;
    }
    tg_text sensor = tg_level(entry->topic, 1);
    if (!sensor.len) sensor = entry->topic;
    /* Only sensors above the limit have a key, so the state stays as small as the trouble. */
    double since;
    bool was_above = tg_get_number(sensor, &since);
    if (number > limit && !was_above) {
        tg_put_number(sensor, number);
        alert(entry, sensor, value);
    } else if (number < rearm_below && was_above) {
        tg_delete(sensor);
    }
}

static tg_result handle(const tg_batch *batch) {
    tg_entry entry;
    if (batch->kind != TG_MESSAGES) return TG_DEAD;
    for (uint32_t i = 0; tg_entry_at(batch, i, &entry); i++) reading(&entry);
    return TG_OK;
}

TG_FUNCTION(configure, handle)
