/* tidegate.h: functions for the Tidegate gateway in C. One header, no C library.
 *
 * A function is two C functions and one macro:
 *
 *     static bool configure(tg_text config) { return true; }
 *
 *     static tg_result handle(const tg_batch *batch) {
 *         tg_entry entry;
 *         for (uint32_t i = 0; tg_entry_at(batch, i, &entry); i++)
 *             tg_emit_for(&entry, TG("copies"), entry.payload);
 *         return TG_OK;
 *     }
 *
 *     TG_FUNCTION(configure, handle)
 *
 * What holds for every function:
 * - What it emits, its state changes and the acknowledgement of the batch commit together or not at
 *   all. A trap, a missed deadline or a result other than TG_OK discards all of them.
 * - State reads see what was committed before the batch, and the function's own writes.
 * - Memory is a cache: a new instance may take over between any two batches. Only the state lasts.
 * - Texts are pieces of memory with a length, not ended by a zero. Those of a batch are good until
 *   `handle` returns.
 *
 * Build: clang --target=wasm32 -Os -mbulk-memory -nostdlib -fvisibility=hidden \
 *     -Wl,--no-entry -Wl,-z,stack-size=16384 -o NAME.wasm NAME.c
 * Include it in one file of the module. The contract: docs/formats/abi-tg1.md.
 */
#ifndef TIDEGATE_H
#define TIDEGATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Texts ------------------------------------------------------------------------------------ */

/* Bytes that belong to somebody else. */
typedef struct {
    const char *at;
    uint32_t len;
} tg_text;

/* A string literal as a text. */
#define TG(literal) ((tg_text){("" literal), sizeof(literal) - 1})

/* Whether two texts have the same bytes. */
static bool tg_equal(tg_text a, tg_text b);
/* The level of a topic, counted from 0; empty where there is none. */
static tg_text tg_level(tg_text topic, uint32_t level);

/* Text that grows. Start with {0}; give it back with tg_free(line.at). */
typedef struct {
    char *at;
    uint32_t len;
    uint32_t cap;
} tg_line;

static void tg_add(tg_line *line, tg_text text);
static void tg_add_number(tg_line *line, int64_t number);
/* Appends a string with its quotes, escaped as JSON wants it. */
static void tg_add_json(tg_line *line, tg_text text);
static tg_text tg_text_of(const tg_line *line);

/* ---- What a function is given ----------------------------------------------------------------- */

enum { TG_MESSAGES = 1, TG_TIMERS = 2, TG_REQUESTS = 3, TG_EVENTS = 4 };

typedef struct {
    const uint8_t *frame;
    uint32_t len;
    uint16_t kind;   /* TG_MESSAGES ...: what all of its entries are */
    uint16_t flags;
    uint32_t count;
    int64_t now_ns;  /* time of the batch, nanoseconds since 1970: the only clock */
    uint64_t id;     /* the same for each attempt at the same entries */
} tg_batch;

typedef struct {
    uint32_t index;
    uint64_t seq;
    int64_t time_ns;  /* of receipt; of a timer: when it was due */
    tg_text topic;    /* of a timer its name, of a request its route, of an event its name */
    tg_text payload;
    tg_text properties;
    uint8_t qos;
    bool retained;
    uint16_t attempt; /* how often it was given before */
    uint32_t source;  /* by which of the function's inputs it came */
} tg_entry;

/* Reads an entry; false behind the last one. */
static bool tg_entry_at(const tg_batch *batch, uint32_t index, tg_entry *entry);
/* The value of a property; false where there is none. Of a request: ":method", ":path", ":user",
 * "{NAME}" for a parameter of the route, "?query", and the headers in lower case. */
static bool tg_property(const tg_entry *entry, tg_text key, tg_text *value);

/* ---- What a function can do ------------------------------------------------------------------- */

typedef enum {
    TG_OK = 0,     /* what was not refused with tg_nack is acknowledged */
    TG_RETRY = -1, /* nothing happened; give the batch again later */
    TG_DEAD = -2   /* nothing happened; put the batch among the dead letters */
} tg_result;

/* Publishes a message that comes from this entry, quality of service 1: it carries the entry's trace
 * context on. */
static void tg_emit_for(const tg_entry *entry, tg_text topic, tg_text payload);
/* Publishes a message that comes from no single entry, quality of service 1. */
static void tg_emit(tg_text topic, tg_text payload);
/* Publishes a message; entry may be NULL. */
static void tg_emit_with(const tg_entry *entry, tg_text topic, tg_text payload, uint8_t qos, bool retain);

enum { TG_NACK_RETRY = 1, TG_NACK_DROP = 2, TG_NACK_DEAD = 3 };
/* Refuses an entry; all others still count. */
static void tg_nack(const tg_entry *entry, uint16_t nack_class, tg_text reason);

/* Answers a request, once. */
static void tg_respond(uint16_t status, tg_text media_type, tg_text body);

/* Starts the timer of that name, or replaces it; period 0: once. */
static void tg_timer(tg_text name, uint64_t delay_ms, uint64_t period_ms);
static void tg_timer_cancel(tg_text name);

/* Adds to a counter of the function; sets a gauge. */
static void tg_count(tg_text name, double value);
static void tg_gauge(tg_text name, double value);

enum { TG_ERROR = 1, TG_WARN = 2, TG_INFO = 3, TG_DEBUG = 4 };
/* Writes a line to the function's log at once: it stays when the batch fails later. */
static void tg_log(int32_t level, tg_text text);

/* ---- State ------------------------------------------------------------------------------------ */

/* Copies at most `cap` bytes of the value of a key. Returns the bytes that it has, -1 where there is
 * no such key. */
static int32_t tg_get(tg_text key, void *value, uint32_t cap);
static void tg_put(tg_text key, const void *value, uint32_t len);
/* The key goes by itself after some milliseconds. */
static void tg_put_for(tg_text key, const void *value, uint32_t len, uint64_t ttl_ms);
static void tg_delete(tg_text key);
/* A number as the state keeps it; false where the key is missing or holds something else. */
static bool tg_get_number(tg_text key, double *value);
static void tg_put_number(tg_text key, double value);
/* The committed entries whose keys start with a prefix and come after `after` (empty: from the first
 * one), as many as fit into `page`: repeated u32 key length, u32 value length, key, value. Returns the
 * bytes written; 0 = no more; more than `cap` = what the first one needs. Own writes of this batch are
 * not among them. */
static int32_t tg_scan(tg_text prefix, tg_text after, void *page, uint32_t cap);

/* ---- JSON ------------------------------------------------------------------------------------- */

/* The value of a member of an object, as it was written; false where there is none, or where the text
 * is no JSON object. Names are compared as they are written. */
static bool tg_json_get(tg_text object, tg_text name, tg_text *value);
/* The value as a number; false where it is none. */
static bool tg_json_number(tg_text value, double *number);
/* What is between the quotes of a string, escapes as they are; false where it is none. */
static bool tg_json_string(tg_text value, tg_text *string);

/* ---- Memory and mistakes ---------------------------------------------------------------------- */

/* A block of at least so many bytes, aligned to 16; traps when memory is used up. */
static void *tg_alloc(size_t bytes);
static void tg_free(void *block);

/* Ends the call with a reason that the operator sees, with file and line. */
#define TG_PANIC(text) tg_panic(TG(__FILE__), __LINE__, TG(text))
#define TG_ASSERT(condition) \
    do { \
        if (!(condition)) TG_PANIC(#condition); \
    } while (0)
static _Noreturn void tg_panic(tg_text file, int64_t line, tg_text text);

/* ==== From here on: how it works =============================================================== */

#define TG_IMPORT(name) __attribute__((import_module("tg1"), import_name(#name)))
#define TG_EXPORT(name) __attribute__((export_name(#name)))
#define TG_UNUSED __attribute__((unused))

TG_IMPORT(kv_get) int32_t tg1_kv_get(const char *key, uint32_t key_len, void *buf, uint32_t cap);
TG_IMPORT(secret_get)
int32_t tg1_secret_get(const char *name, uint32_t name_len, void *buf, uint32_t cap);
TG_IMPORT(kv_scan)
int32_t tg1_kv_scan(const char *prefix, uint32_t prefix_len, const char *after, uint32_t after_len,
                    void *buf, uint32_t cap);
TG_IMPORT(log) void tg1_log(int32_t level, const char *text, uint32_t len);

/* Also for code that the compiler makes of loops. With -mbulk-memory each is one instruction. */
__attribute__((weak)) void *memcpy(void *to, const void *from, size_t len) {
    __builtin_memcpy(to, from, len);
    return to;
}
__attribute__((weak)) void *memset(void *to, int byte, size_t len) {
    __builtin_memset(to, byte, len);
    return to;
}

/* Blocks are powers of two; each size has a list of free ones, and what no list has is cut from the
 * end of memory. Before a block stands its size class. */
extern uint8_t __heap_base;
static void *tg_free_blocks[32];
static uintptr_t tg_heap_next;

TG_UNUSED static void *tg_alloc(size_t bytes) {
    if (bytes > (1u << 30)) TG_PANIC("a block above 1 GiB");
    uint32_t class = 5;
    while (((size_t)1 << class) < bytes + 16) class++;
    uint8_t *block = tg_free_blocks[class];
    if (block) {
        tg_free_blocks[class] = *(void **)(block + 16);
    } else {
        if (!tg_heap_next) tg_heap_next = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
        block = (uint8_t *)tg_heap_next;
        tg_heap_next += (uintptr_t)1 << class;
        uintptr_t size = (uintptr_t)__builtin_wasm_memory_size(0) << 16;
        if (tg_heap_next > size &&
            __builtin_wasm_memory_grow(0, (tg_heap_next - size + 65535) >> 16) == (size_t)-1)
            __builtin_trap();
    }
    *(uint32_t *)block = class;
    return block + 16;
}

TG_UNUSED static void tg_free(void *at) {
    if (!at) return;
    uint8_t *block = (uint8_t *)at - 16;
    uint32_t class = *(uint32_t *)block;
    *(void **)at = tg_free_blocks[class];
    tg_free_blocks[class] = block;
}

/* Room for `more` bytes behind the first `len`. */
static void tg_reserve(char **at, uint32_t len, uint32_t *cap, uint32_t more) {
    if (more <= *cap - len) return;
    if (more > (1u << 29) || len > (1u << 29)) __builtin_trap();
    uint32_t wanted = *cap < 48 ? 48 : *cap;
    while (wanted - len < more) wanted = wanted * 2 + 16;
    char *bigger = tg_alloc(wanted);
    __builtin_memcpy(bigger, *at, len);
    tg_free(*at);
    *at = bigger;
    *cap = wanted;
}

TG_UNUSED static bool tg_equal(tg_text a, tg_text b) {
    if (a.len != b.len) return false;
    for (uint32_t i = 0; i < a.len; i++)
        if (a.at[i] != b.at[i]) return false;
    return true;
}

TG_UNUSED static tg_text tg_level(tg_text topic, uint32_t level) {
    uint32_t start = 0, at = 0;
    for (;; at++) {
        if (at < topic.len && topic.at[at] != '/') continue;
        if (level-- == 0) return (tg_text){topic.at + start, at - start};
        if (at >= topic.len) return TG("");
        start = at + 1;
    }
}

TG_UNUSED static void tg_add(tg_line *line, tg_text text) {
    tg_reserve(&line->at, line->len, &line->cap, text.len);
    __builtin_memcpy(line->at + line->len, text.at, text.len);
    line->len += text.len;
}

TG_UNUSED static void tg_add_number(tg_line *line, int64_t number) {
    char digits[20];
    uint32_t at = sizeof digits;
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        digits[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left);
    if (number < 0) digits[--at] = '-';
    tg_add(line, (tg_text){digits + at, sizeof digits - at});
}

TG_UNUSED static void tg_add_json(tg_line *line, tg_text text) {
    tg_add(line, TG("\""));
    for (uint32_t i = 0; i < text.len; i++) {
        uint8_t c = (uint8_t)text.at[i];
        char escape[6] = {'\\', 'u', '0', '0', "01"[c >> 4 & 1], "0123456789abcdef"[c & 15]};
        if (c == '"' || c == '\\') tg_add(line, (tg_text){escape, 1});
        if (c >= ' ') tg_add(line, (tg_text){text.at + i, 1});
        else tg_add(line, (tg_text){escape, 6});
    }
    tg_add(line, TG("\""));
}

TG_UNUSED static tg_text tg_text_of(const tg_line *line) { return (tg_text){line->at, line->len}; }

TG_UNUSED static void tg_log(int32_t level, tg_text text) { tg1_log(level, text.at, text.len); }

/* The gateway takes the last line that begins so for the reason of the trap. */
TG_UNUSED static _Noreturn void tg_panic(tg_text file, int64_t line, tg_text text) {
    /* Not in memory of the heap: that may be what is used up. */
    static char buffer[256];
    tg_line said = {buffer, 0, sizeof buffer};
    if (file.len > 100) file = (tg_text){file.at + file.len - 100, 100};
    if (text.len > 100) text.len = 100;
    tg_add(&said, TG("panicked at "));
    tg_add(&said, file);
    tg_add(&said, TG(":"));
    tg_add_number(&said, line);
    tg_add(&said, TG(": "));
    tg_add(&said, text);
    tg_log(TG_ERROR, tg_text_of(&said));
    __builtin_trap();
}

static uint16_t tg_u16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
/* Frames may start anywhere; Wasm reads at any address. */
static uint32_t tg_u32(const uint8_t *at) {
    uint32_t value;
    __builtin_memcpy(&value, at, 4);
    return value;
}
static uint64_t tg_u64(const uint8_t *at) {
    uint64_t value;
    __builtin_memcpy(&value, at, 8);
    return value;
}

static bool tg_read_batch(const uint8_t *frame, uint32_t len, tg_batch *batch) {
    if (len < 32 || tg_u32(frame) != 0x31424754 || tg_u32(frame + 12) != len) return false;
    *batch = (tg_batch){frame, len, tg_u16(frame + 4), tg_u16(frame + 6), tg_u32(frame + 8),
                        (int64_t)tg_u64(frame + 16), tg_u64(frame + 24)};
    return batch->kind >= TG_MESSAGES && batch->kind <= TG_EVENTS && batch->count <= (len - 32) / 48;
}

/* The text that an offset and a length in an entry speak of. */
static tg_text tg_span(const tg_batch *batch, const uint8_t *at) {
    uint32_t offset = tg_u32(at), len = tg_u32(at + 4);
    if (len > batch->len || offset > batch->len - len) TG_PANIC("an entry outside of the input frame");
    return (tg_text){(const char *)batch->frame + offset, len};
}

TG_UNUSED static bool tg_entry_at(const tg_batch *batch, uint32_t index, tg_entry *entry) {
    if (index >= batch->count) return false;
    const uint8_t *at = batch->frame + 32 + index * 48;
    *entry = (tg_entry){index, tg_u64(at), (int64_t)tg_u64(at + 8),
                        tg_span(batch, at + 16), tg_span(batch, at + 24), tg_span(batch, at + 32),
                        at[40], at[41] != 0, tg_u16(at + 42), tg_u32(at + 44)};
    return true;
}

TG_UNUSED static bool tg_property(const tg_entry *entry, tg_text key, tg_text *value) {
    const uint8_t *list = (const uint8_t *)entry->properties.at;
    uint32_t len = entry->properties.len, at = 0;
    while (len - at >= 4) {
        uint32_t key_len = tg_u16(list + at), value_len = tg_u16(list + at + 2);
        if (key_len + value_len > len - at - 4) return false;
        const char *found = (const char *)list + at + 4;
        *value = (tg_text){found + key_len, value_len};
        if (tg_equal((tg_text){found, key_len}, key)) return true;
        at += 4 + key_len + value_len;
    }
    return false;
}

/* The output frame of this call, built in place. */
static char *tg_out;
static uint32_t tg_out_len, tg_out_cap, tg_out_count;
/* Whether the gateway takes the cause of an EMIT. */
static bool tg_wants_causes;

/* Appends an operation: its fixed part as words of 8 bytes, then the pieces. */
static void tg_operation(uint16_t code, const uint64_t *words, uint32_t count, tg_text a, tg_text b) {
    if (a.len > (1u << 28) || b.len > (1u << 28)) TG_PANIC("an operation above 256 MiB");
    uint32_t body = count * 8 + a.len + b.len, padded = (body + 7) & ~7u;
    if (!tg_out_len) {
        tg_reserve(&tg_out, 0, &tg_out_cap, 16);
        tg_out_len = 16;
    }
    tg_reserve(&tg_out, tg_out_len, &tg_out_cap, 8 + padded);
    char *at = tg_out + tg_out_len;
    __builtin_memset(at + 8 + padded - 8, 0, padded ? 8 : 0);
    uint64_t header = code | (uint64_t)body << 32;
    __builtin_memcpy(at, &header, 8);
    __builtin_memcpy(at + 8, words, count * 8);
    __builtin_memcpy(at + 8 + count * 8, a.at, a.len);
    __builtin_memcpy(at + 8 + count * 8 + a.len, b.at, b.len);
    tg_out_len += 8 + padded;
    tg_out_count++;
}

static uint64_t tg_pair(uint32_t first, uint32_t second) { return first | (uint64_t)second << 32; }

TG_UNUSED static void tg_emit_with(const tg_entry *entry, tg_text topic, tg_text payload, uint8_t qos,
                                   bool retain) {
    uint32_t cause = tg_wants_causes && entry && entry->index < 65535 ? entry->index + 1 : 0;
    uint64_t words[2] = {tg_pair(topic.len, payload.len),
                         tg_pair(0, qos | (uint32_t)retain << 8 | cause << 16)};
    tg_operation(1, words, 2, topic, payload);
}

TG_UNUSED static void tg_emit_for(const tg_entry *entry, tg_text topic, tg_text payload) {
    tg_emit_with(entry, topic, payload, 1, false);
}

TG_UNUSED static void tg_emit(tg_text topic, tg_text payload) {
    tg_emit_with(NULL, topic, payload, 1, false);
}

TG_UNUSED static void tg_nack(const tg_entry *entry, uint16_t nack_class, tg_text reason) {
    uint64_t words[2] = {tg_pair(entry->index, 0), tg_pair(reason.len, nack_class)};
    tg_operation(2, words, 2, reason, TG(""));
}

TG_UNUSED static void tg_put_for(tg_text key, const void *value, uint32_t len, uint64_t ttl_ms) {
    uint64_t words[2] = {tg_pair(key.len, len), ttl_ms};
    tg_operation(3, words, 2, key, (tg_text){value, len});
}

TG_UNUSED static void tg_put(tg_text key, const void *value, uint32_t len) {
    tg_put_for(key, value, len, 0);
}

TG_UNUSED static void tg_delete(tg_text key) {
    uint64_t words[1] = {tg_pair(key.len, 0)};
    tg_operation(4, words, 1, key, TG(""));
}

static void tg_metric(tg_text name, uint32_t kind, double value) {
    uint64_t words[2] = {tg_pair(name.len, kind)};
    __builtin_memcpy(&words[1], &value, 8);
    tg_operation(5, words, 2, name, TG(""));
}

TG_UNUSED static void tg_count(tg_text name, double value) { tg_metric(name, 1, value); }
TG_UNUSED static void tg_gauge(tg_text name, double value) { tg_metric(name, 2, value); }

TG_UNUSED static void tg_respond(uint16_t status, tg_text media_type, tg_text body) {
    uint64_t words[2] = {tg_pair(media_type.len, body.len), status};
    tg_operation(7, words, 2, media_type, body);
}

TG_UNUSED static void tg_timer(tg_text name, uint64_t delay_ms, uint64_t period_ms) {
    uint64_t words[3] = {tg_pair(name.len, 0), delay_ms, period_ms};
    tg_operation(8, words, 3, name, TG(""));
}

TG_UNUSED static void tg_timer_cancel(tg_text name) { tg_timer(name, 0, 0); }

/* The last write of a key in this call: its value in `value`, 0 for a removal, -1 for none. */
static int32_t tg_own_write(tg_text key, tg_text *value) {
    int32_t found = -1;
    for (uint32_t at = 16; at + 8 <= tg_out_len;) {
        const uint8_t *operation = (const uint8_t *)tg_out + at;
        uint16_t code = tg_u16(operation);
        const uint8_t *body = operation + 8;
        uint32_t fixed = code == 3 ? 16 : 8;
        if ((code == 3 || code == 4) && tg_equal((tg_text){(const char *)body + fixed, tg_u32(body)}, key)) {
            found = code == 3;
            if (found) *value = (tg_text){(const char *)body + fixed + key.len, tg_u32(body + 4)};
        }
        at += 8 + ((tg_u32(operation + 4) + 7) & ~7u);
    }
    return found;
}

TG_UNUSED static int32_t tg_get(tg_text key, void *value, uint32_t cap) {
    tg_text own;
    int32_t written = tg_own_write(key, &own);
    if (written == 0) return -1;
    if (written > 0) {
        __builtin_memcpy(value, own.at, own.len < cap ? own.len : cap);
        return (int32_t)own.len;
    }
    int32_t len = tg1_kv_get(key.at, key.len, value, cap);
    if (len >= 0 && (uint32_t)len > cap) {
        /* The gateway writes all of it or nothing. */
        char *whole = tg_alloc((uint32_t)len);
        len = tg1_kv_get(key.at, key.len, whole, (uint32_t)len);
        __builtin_memcpy(value, whole, cap);
        tg_free(whole);
    }
    return len < 0 ? -1 : len;
}

/* The secret of this name as it is now: its length; written only if it fits. -1 when it has no value, or `secrets` does not name it. */
TG_UNUSED static int32_t tg_secret(tg_text name, void *value, uint32_t cap) {
    int32_t len = tg1_secret_get(name.at, name.len, value, cap);
    return len < 0 ? -1 : len;
}

TG_UNUSED static bool tg_get_number(tg_text key, double *value) {
    return tg_get(key, value, sizeof *value) == (int32_t)sizeof *value;
}

TG_UNUSED static void tg_put_number(tg_text key, double value) { tg_put(key, &value, sizeof value); }

TG_UNUSED static int32_t tg_scan(tg_text prefix, tg_text after, void *page, uint32_t cap) {
    int32_t len = tg1_kv_scan(prefix.at, prefix.len, after.at, after.len, page, cap);
    return len < 0 ? 0 : len;
}

/* Reads JSON from left to right; `at` never passes the end. */
typedef struct {
    tg_text text;
    uint32_t at;
} tg_scanner;

static int tg_peek(const tg_scanner *s) { return s->at < s->text.len ? (uint8_t)s->text.at[s->at] : -1; }

static void tg_space(tg_scanner *s) {
    for (int c = tg_peek(s); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = tg_peek(s)) s->at++;
}

static bool tg_take(tg_scanner *s, int c) {
    tg_space(s);
    if (tg_peek(s) != c) return false;
    s->at++;
    return true;
}

static bool tg_skip_string(tg_scanner *s) {
    if (!tg_take(s, '"')) return false;
    for (int c = tg_peek(s); c >= ' '; c = tg_peek(s)) {
        s->at++;
        if (c == '"') return true;
        if (c == '\\' && tg_peek(s) >= 0) s->at++;
    }
    return false;
}

static bool tg_skip_digits(tg_scanner *s) {
    uint32_t start = s->at;
    while (tg_peek(s) >= '0' && tg_peek(s) <= '9') s->at++;
    return s->at > start;
}

static bool tg_skip_number(tg_scanner *s) {
    if (tg_peek(s) == '-') s->at++;
    if (tg_peek(s) == '0') s->at++;
    else if (!tg_skip_digits(s)) return false;
    if (tg_peek(s) == '.') {
        s->at++;
        if (!tg_skip_digits(s)) return false;
    }
    if ((tg_peek(s) | 32) == 'e') {
        s->at++;
        if (tg_peek(s) == '+' || tg_peek(s) == '-') s->at++;
        if (!tg_skip_digits(s)) return false;
    }
    return true;
}

static bool tg_skip_word(tg_scanner *s, tg_text word) {
    if (s->text.len - s->at < word.len) return false;
    bool same = tg_equal((tg_text){s->text.at + s->at, word.len}, word);
    s->at += same ? word.len : 0;
    return same;
}

static bool tg_skip_value(tg_scanner *s, uint32_t depth);

/* What is between brackets, the opening one taken already. */
static bool tg_skip_inside(tg_scanner *s, int close, uint32_t depth) {
    if (tg_take(s, close)) return true;
    do {
        if (close == '}' && !(tg_skip_string(s) && tg_take(s, ':'))) return false;
        if (!tg_skip_value(s, depth + 1)) return false;
    } while (tg_take(s, ','));
    return tg_take(s, close);
}

static bool tg_skip_value(tg_scanner *s, uint32_t depth) {
    if (depth > 32) return false;
    tg_space(s);
    switch (tg_peek(s)) {
    case '"': return tg_skip_string(s);
    case '{': s->at++; return tg_skip_inside(s, '}', depth);
    case '[': s->at++; return tg_skip_inside(s, ']', depth);
    case 't': return tg_skip_word(s, TG("true"));
    case 'f': return tg_skip_word(s, TG("false"));
    case 'n': return tg_skip_word(s, TG("null"));
    default: return tg_skip_number(s);
    }
}

TG_UNUSED static bool tg_json_string(tg_text value, tg_text *string) {
    if (value.len < 2 || value.at[0] != '"') return false;
    *string = (tg_text){value.at + 1, value.len - 2};
    return true;
}

TG_UNUSED static bool tg_json_get(tg_text object, tg_text name, tg_text *value) {
    tg_scanner s = {object, 0};
    bool found = false;
    if (!tg_take(&s, '{')) return false;
    if (!tg_take(&s, '}')) {
        do {
            tg_space(&s);
            uint32_t start = s.at;
            if (!tg_skip_string(&s)) return false;
            tg_text key = {object.at + start + 1, s.at - start - 2};
            if (!tg_take(&s, ':')) return false;
            tg_space(&s);
            start = s.at;
            if (!tg_skip_value(&s, 1)) return false;
            if (tg_equal(key, name)) {
                *value = (tg_text){object.at + start, s.at - start};
                found = true;
            }
        } while (tg_take(&s, ','));
        if (!tg_take(&s, '}')) return false;
    }
    tg_space(&s);
    return found && s.at == object.len;
}

TG_UNUSED static bool tg_json_number(tg_text value, double *number) {
    tg_scanner s = {value, 0};
    if (!tg_skip_number(&s) || s.at != value.len) return false;
    uint64_t mantissa = 0;
    int32_t scale = 0, exponent = 0;
    bool fraction = false;
    uint32_t at = value.at[0] == '-';
    for (; at < value.len && (value.at[at] | 32) != 'e'; at++) {
        if (value.at[at] == '.') {
            fraction = true;
        } else if (mantissa < 1000000000000000000u) {
            /* 19 digits fit into 64 bits; those after them only shift. */
            mantissa = mantissa * 10 + (uint64_t)(value.at[at] - '0');
            scale -= fraction;
        } else {
            scale += !fraction;
        }
    }
    bool below = at + 1 < value.len && value.at[at + 1] == '-';
    for (at++; at < value.len; at++)
        if (value.at[at] >= '0' && exponent < 100000) exponent = exponent * 10 + (value.at[at] - '0');
    scale += below ? -exponent : exponent;
    double result = (double)mantissa;
    /* One step of at most 22 digits is exact where the mantissa is. */
    while (scale && result != 0 && result <= 1.7976931348623157e308) {
        uint32_t step = scale < 0 ? (uint32_t)-scale : (uint32_t)scale;
        if (step > 22) step = 22;
        double power = 1;
        for (uint32_t i = 0; i < step; i++) power *= 10;
        result = scale < 0 ? result / power : result * power;
        scale += scale < 0 ? (int32_t)step : -(int32_t)step;
    }
    if (result > 1.7976931348623157e308) return false;
    *number = value.at[0] == '-' ? -result : result;
    return true;
}

/* The input buffer, kept for the next call. */
static char *tg_in;
static uint32_t tg_in_cap;

static int64_t tg_run(const uint8_t *frame, uint32_t len, tg_result (*handle)(const tg_batch *)) {
    tg_batch batch;
    if (!tg_read_batch(frame, len, &batch)) TG_PANIC("the input frame is malformed");
    tg_out_len = tg_out_count = 0;
    tg_wants_causes = batch.flags & 1;
    tg_result result = handle(&batch);
    if (result != TG_OK) return result;
    if (!tg_out_count) return 0;
    uint64_t header[2] = {tg_pair(0x314f4754, tg_out_count), tg_pair(tg_out_len, 0)};
    __builtin_memcpy(tg_out, header, 16);
    return (int64_t)tg_pair(tg_out_len, (uint32_t)(uintptr_t)tg_out);
}

/* Makes a module of two functions: `bool configure(tg_text config)`, false to refuse it (log why), and
 * `tg_result handle(const tg_batch *batch)`. */
#define TG_FUNCTION(configure, handle) \
    TG_EXPORT(tg_abi_1) void tg_abi_1(void) {} \
    TG_EXPORT(tg_buffer) void *tg_buffer(uint32_t min_len) { \
        tg_reserve(&tg_in, 0, &tg_in_cap, min_len < 4096 ? 4096 : min_len); \
        return tg_in; \
    } \
    TG_EXPORT(tg_init) int32_t tg_init(const char *at, uint32_t len) { \
        return configure((tg_text){at, len}) ? 0 : 1; \
    } \
    TG_EXPORT(tg_handle) int64_t tg_handle(const uint8_t *at, uint32_t len) { \
        return tg_run(at, len, handle); \
    }

#endif
