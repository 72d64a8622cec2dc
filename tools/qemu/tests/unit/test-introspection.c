/*
 * Tests of the handshake and the states of KVM introspection
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "crypto/hash.h"
#include "crypto/hmac.h"
#include "crypto/init.h"
#include "accel/kvm/introspection-core.h"

#define KEY "a key that nobody guesses"

/* What the core has done, as one line: "state hello timer(10000) send(104)" */
typedef struct Fake {
    IntrospectionCore core;
    GString *log;
    char *reason;
    bool send_fails;
    bool closed_by_send;
    bool hook_fails;
    bool preunhook_fails;
    uint8_t sent[256];
    size_t sent_size;
    int64_t timer;
} Fake;

static void fake_describe(void *opaque, IntrospectionHello *hello)
{
    memset(hello->uuid, 0xab, sizeof(hello->uuid));
    memset(hello->name, 'n', sizeof(hello->name));
    hello->start_time = 0x123456789;
    hello->max_gpa = 0x140000000;
}

static bool fake_send(void *opaque, const void *data, size_t size)
{
    Fake *f = opaque;

    g_assert_cmpuint(size, <=, sizeof(f->sent));
    memcpy(f->sent, data, size);
    f->sent_size = size;
    g_string_append_printf(f->log, "send(%zu) ", size);
    if (f->closed_by_send) {
        introspection_core_closed(&f->core);
    }
    return !f->send_fails;
}

static bool fake_hook(void *opaque, Error **errp)
{
    Fake *f = opaque;

    g_string_append(f->log, "hook ");
    if (f->hook_fails) {
        error_setg(errp, "not hooked");
    }
    return !f->hook_fails;
}

static bool fake_preunhook(void *opaque)
{
    Fake *f = opaque;

    g_string_append(f->log, "preunhook ");
    return !f->preunhook_fails;
}

static void fake_unhook(void *opaque)
{
    g_string_append(((Fake *)opaque)->log, "unhook ");
}

static void fake_disconnect(void *opaque)
{
    g_string_append(((Fake *)opaque)->log, "disconnect ");
}

static void fake_connect(void *opaque, bool enable)
{
    g_string_append(((Fake *)opaque)->log, enable ? "connect " : "suspend ");
}

static void fake_timer(void *opaque, int64_t ms)
{
    Fake *f = opaque;

    f->timer = ms;
}

static void fake_changed(void *opaque, IntrospectionCoreState state,
                         const char *reason)
{
    static const char *names[] = { "IDLE", "HELLO", "HOOKED", "UNHOOKING" };
    Fake *f = opaque;

    /* What hears of a state must find it. */
    g_assert_cmpint(state, ==, f->core.state);
    g_string_append_printf(f->log, "%s ", names[state]);
    g_free(f->reason);
    f->reason = g_strdup(reason);
}

static const IntrospectionCoreOps fake_ops = {
    .describe = fake_describe,
    .send = fake_send,
    .hook = fake_hook,
    .preunhook = fake_preunhook,
    .unhook = fake_unhook,
    .disconnect = fake_disconnect,
    .connect = fake_connect,
    .timer = fake_timer,
    .changed = fake_changed,
};

static Fake *fake_new(uint32_t auth)
{
    Fake *f = g_new0(Fake, 1);

    f->log = g_string_new(NULL);
    introspection_core_init(&f->core, &fake_ops, f);
    f->core.handshake_timeout = 10;
    f->core.unhook_timeout = 60;
    f->core.auth = auth;
    if (auth) {
        f->core.key = g_memdup2(KEY, strlen(KEY));
        f->core.key_size = strlen(KEY);
    }
    f->timer = -1;
    introspection_core_allow(&f->core, true);
    return f;
}

static void fake_free(Fake *f)
{
    if (f->core.state != INTROSPECTION_IDLE) {
        introspection_core_closed(&f->core);
    }
    introspection_core_destroy(&f->core);
    g_string_free(f->log, true);
    g_free(f->reason);
    g_free(f);
}

/* Nothing but @log has happened since the last time. */
static void expect(Fake *f, const char *log)
{
    g_strchomp(f->log->str);
    g_assert_cmpstr(f->log->str, ==, log);
    g_string_truncate(f->log, 0);
}

static void expect_reason(Fake *f, const char *part)
{
    g_assert_nonnull(f->reason);
    g_assert_nonnull(strstr(f->reason, part));
}

static void sha1_reply(uint8_t *reply)
{
    uint32_t size = INTROSPECTION_REPLY_MIN;
    g_autofree uint8_t *hash = NULL;
    size_t hash_size = 0;

    memcpy(reply, &size, sizeof(size));
    qcrypto_hash_bytes(QCRYPTO_HASH_ALGO_SHA1, KEY, strlen(KEY), &hash,
                       &hash_size, &error_abort);
    g_assert_cmpuint(hash_size, ==, 20);
    memcpy(reply + 4, hash, hash_size);
}

static void hmac_reply(Fake *f, uint8_t *reply, const char *key)
{
    uint32_t size = INTROSPECTION_REPLY_HMAC;
    g_autoptr(QCryptoHmac) hmac = NULL;
    g_autofree uint8_t *digest = NULL;
    size_t digest_size = 0;

    memset(reply, 0, size);
    memcpy(reply, &size, sizeof(size));
    hmac = qcrypto_hmac_new(QCRYPTO_HASH_ALGO_SHA256, (const uint8_t *)key,
                            strlen(key), &error_abort);
    qcrypto_hmac_bytes(hmac, (char *)f->sent, f->sent_size, &digest,
                       &digest_size, &error_abort);
    g_assert_cmpuint(digest_size, ==, 32);
    memcpy(reply + 24, digest, digest_size);
}

static void plain_reply(uint8_t *reply, uint32_t size)
{
    memset(reply, 0, size);
    memcpy(reply, &size, sizeof(size));
}

/* As the character device does: never more than may be received. */
static size_t feed(Fake *f, const uint8_t *data, size_t size)
{
    size_t n, taken = 0;

    while (taken < size) {
        n = MIN(size - taken, introspection_core_can_receive(&f->core));
        if (!n) {
            break;
        }
        introspection_core_receive(&f->core, data + taken, n);
        taken += n;
    }
    return taken;
}

static void fake_hooked(Fake *f)
{
    uint8_t reply[INTROSPECTION_REPLY_MIN];

    plain_reply(reply, sizeof(reply));
    introspection_core_opened(&f->core);
    feed(f, reply, sizeof(reply));
    g_assert_cmpint(f->core.state, ==, INTROSPECTION_HOOKED);
    g_string_truncate(f->log, 0);
}

static void test_hello(void)
{
    Fake *f = fake_new(0);
    uint32_t size;
    uint8_t zero[4] = { 0 };
    int64_t start;
    uint64_t max_gpa;
    unsigned i;

    introspection_core_opened(&f->core);
    expect(f, "connect HELLO send(104)");
    g_assert_cmpint(f->timer, ==, 10000);

    /* The offsets that tools have known since 2020. */
    memcpy(&size, f->sent, 4);
    memcpy(&start, f->sent + 24, 8);
    memcpy(&max_gpa, f->sent + 96, 8);
    g_assert_cmpuint(size, ==, 104);
    g_assert_cmpmem(f->sent + 20, 4, zero, 4);
    g_assert_cmpint(start, ==, 0x123456789);
    g_assert_cmpuint(max_gpa, ==, 0x140000000);
    for (i = 4; i < 20; i++) {
        g_assert_cmpuint(f->sent[i], ==, 0xab);
    }
    g_assert_cmpuint(f->sent[32], ==, 'n');
    g_assert_cmpuint(f->sent[94], ==, 'n');
    g_assert_cmpuint(f->sent[95], ==, 0);
    fake_free(f);

    /* An old tool with a key sees what it has always seen. */
    f = fake_new(INTROSPECTION_CORE_SHA1);
    introspection_core_opened(&f->core);
    expect(f, "connect HELLO send(104)");
    fake_free(f);
}

static void test_challenge(void)
{
    Fake *f = fake_new(INTROSPECTION_CORE_HMAC_SHA256);
    uint8_t first[32];
    uint32_t word;

    introspection_core_opened(&f->core);
    expect(f, "connect HELLO send(144)");
    memcpy(&word, f->sent, 4);
    g_assert_cmpuint(word, ==, 144);
    memcpy(&word, f->sent + 104, 4);
    g_assert_cmpuint(word, ==, 2);
    memcpy(first, f->sent + 112, 32);
    introspection_core_closed(&f->core);

    introspection_core_opened(&f->core);
    g_assert_cmpint(memcmp(first, f->sent + 112, 32), !=, 0);
    fake_free(f);
}

/* The reply in two pieces, split at each place. */
static void test_split(void)
{
    static const size_t sizes[] = { 24, 25, 56, 57, 100, 4096, 65536 };
    g_autofree uint8_t *reply = g_malloc(65536);
    size_t i, cut, size;
    Fake *f;

    for (i = 0; i < ARRAY_SIZE(sizes); i++) {
        size = sizes[i];
        plain_reply(reply, size);
        for (cut = 0; cut <= MIN(size, 130); cut++) {
            f = fake_new(0);
            introspection_core_opened(&f->core);
            g_string_truncate(f->log, 0);
            g_assert_cmpuint(feed(f, reply, cut), ==, cut);
            if (cut < size) {
                g_assert_cmpint(f->core.state, ==, INTROSPECTION_HELLO);
                expect(f, "");
                g_assert_cmpuint(feed(f, reply + cut, size - cut), ==,
                                 size - cut);
            }
            expect(f, "hook HOOKED");
            g_assert_cmpint(f->timer, ==, -1);
            fake_free(f);
        }
    }
}

static void test_bytes(void)
{
    uint8_t reply[INTROSPECTION_REPLY_HMAC];
    Fake *f = fake_new(INTROSPECTION_CORE_HMAC_SHA256);
    size_t i;

    introspection_core_opened(&f->core);
    hmac_reply(f, reply, KEY);
    expect(f, "connect HELLO send(144)");
    for (i = 0; i < sizeof(reply); i++) {
        g_assert_cmpint(f->core.state, ==, INTROSPECTION_HELLO);
        /* The rest of what is known, and not a byte more. */
        g_assert_cmpuint(introspection_core_can_receive(&f->core), ==,
                         i < 4 ? 4 - i : sizeof(reply) - i);
        introspection_core_receive(&f->core, reply + i, 1);
    }
    expect(f, "hook HOOKED");
    fake_free(f);
}

/* The tool's first command is behind its reply: that is for KVM. */
static void test_nothing_eaten(void)
{
    static const size_t sizes[] = { 24, 30, 56, 300 };
    uint8_t data[400];
    size_t i;
    Fake *f;

    for (i = 0; i < ARRAY_SIZE(sizes); i++) {
        f = fake_new(0);
        plain_reply(data, sizes[i]);
        memset(data + sizes[i], 0x55, sizeof(data) - sizes[i]);
        introspection_core_opened(&f->core);
        g_assert_cmpuint(feed(f, data, sizeof(data)), ==, sizes[i]);
        g_assert_cmpint(f->core.state, ==, INTROSPECTION_HOOKED);
        g_assert_cmpuint(introspection_core_can_receive(&f->core), ==, 0);
        fake_free(f);
    }

    /* Should a character device not care: KVM must not get what is left. */
    f = fake_new(0);
    plain_reply(data, 24);
    introspection_core_opened(&f->core);
    g_string_truncate(f->log, 0);
    introspection_core_receive(&f->core, data, 25);
    expect(f, "disconnect IDLE");
    fake_free(f);
}

static void test_impossible_size(void)
{
    static const uint32_t sizes[] = { 0, 1, 4, 23, 65537, 0x7fffffff,
                                      0x80000000, 0xffffffff };
    uint8_t reply[32] = { 0 };
    size_t i;
    Fake *f;

    for (i = 0; i < ARRAY_SIZE(sizes); i++) {
        f = fake_new(0);
        introspection_core_opened(&f->core);
        g_string_truncate(f->log, 0);
        memcpy(reply, &sizes[i], 4);
        g_assert_cmpuint(feed(f, reply, sizeof(reply)), ==, 4);
        expect(f, "disconnect IDLE");
        expect_reason(f, "size");
        g_assert_cmpint(f->timer, ==, -1);
        fake_free(f);
    }
}

static void test_silence(void)
{
    uint8_t reply[24];
    size_t got;
    Fake *f;

    plain_reply(reply, sizeof(reply));
    for (got = 0; got < sizeof(reply); got++) {
        f = fake_new(0);
        introspection_core_opened(&f->core);
        feed(f, reply, got);
        g_string_truncate(f->log, 0);
        introspection_core_timeout(&f->core);
        expect(f, "disconnect IDLE");
        expect_reason(f, "does not answer");

        /* What comes too late is of no connection any more. */
        introspection_core_receive(&f->core, reply + got, sizeof(reply) - got);
        introspection_core_timeout(&f->core);
        introspection_core_closed(&f->core);
        expect(f, "");
        fake_free(f);
    }
}

/* Longest timeouts must not wrap. */
static void test_timeouts(void)
{
    Fake *f = fake_new(0);

    f->core.handshake_timeout = UINT32_MAX;
    f->core.unhook_timeout = UINT32_MAX;
    introspection_core_opened(&f->core);
    g_assert_cmpint(f->timer, ==, 4294967295000);
    introspection_core_closed(&f->core);
    fake_hooked(f);
    g_assert_true(introspection_core_release(&f->core));
    g_assert_cmpint(f->timer, ==, 4294967295000);
    fake_free(f);
}

typedef enum Answer {
    ANSWER_NOTHING,
    ANSWER_SHA1,
    ANSWER_SHA1_LONG,       /* as old tools may, with what follows ignored */
    ANSWER_HMAC,
    ANSWER_HMAC_LONG,
    ANSWER_HMAC_OTHER_KEY,
    ANSWER_HMAC_REPLAYED,   /* right for the connection before */
    ANSWER_MAX,
} Answer;

static void test_auth(void)
{
    static const struct {
        uint32_t auth;
        bool good[ANSWER_MAX];
    } tests[] = {
        { 0, { true, true, true, true, true, true, true } },
        { INTROSPECTION_CORE_SHA1,
          { false, true, true, false, false, false, false } },
        { INTROSPECTION_CORE_HMAC_SHA256,
          { false, false, false, true, true, false, false } },
        { INTROSPECTION_CORE_SHA1 | INTROSPECTION_CORE_HMAC_SHA256,
          { false, true, true, true, true, false, false } },
    };
    uint8_t reply[200];
    uint32_t size;
    Answer answer;
    size_t i, bit;
    Fake *f;

    for (i = 0; i < ARRAY_SIZE(tests); i++) {
        for (answer = 0; answer < ANSWER_MAX; answer++) {
            f = fake_new(tests[i].auth);
            introspection_core_opened(&f->core);
            memset(reply, 0, sizeof(reply));
            switch (answer) {
            case ANSWER_NOTHING:
                plain_reply(reply, 24);
                break;
            case ANSWER_SHA1:
            case ANSWER_SHA1_LONG:
                sha1_reply(reply);
                break;
            case ANSWER_HMAC:
            case ANSWER_HMAC_LONG:
                hmac_reply(f, reply, KEY);
                break;
            case ANSWER_HMAC_OTHER_KEY:
                hmac_reply(f, reply, "another key");
                break;
            case ANSWER_HMAC_REPLAYED:
                hmac_reply(f, reply, KEY);
                introspection_core_closed(&f->core);
                introspection_core_opened(&f->core);
                break;
            default:
                g_assert_not_reached();
            }
            if (answer == ANSWER_SHA1_LONG || answer == ANSWER_HMAC_LONG) {
                size = 130;
                memcpy(reply, &size, 4);
            }
            memcpy(&size, reply, 4);
            g_string_truncate(f->log, 0);
            g_assert_cmpuint(feed(f, reply, size), ==, size);
            if (tests[i].auth == 0 || tests[i].good[answer]) {
                expect(f, "hook HOOKED");
            } else {
                expect(f, "disconnect IDLE");
                g_assert_nonnull(f->reason);
            }
            fake_free(f);
        }
    }

    /* Any bit that is different is enough. */
    for (bit = 24 * 8; bit < 56 * 8; bit++) {
        f = fake_new(INTROSPECTION_CORE_HMAC_SHA256);
        introspection_core_opened(&f->core);
        hmac_reply(f, reply, KEY);
        reply[bit / 8] ^= 1 << bit % 8;
        feed(f, reply, 56);
        g_assert_cmpint(f->core.state, ==, INTROSPECTION_IDLE);
        fake_free(f);
    }
    for (bit = 4 * 8; bit < 24 * 8; bit++) {
        f = fake_new(INTROSPECTION_CORE_SHA1);
        introspection_core_opened(&f->core);
        sha1_reply(reply);
        reply[bit / 8] ^= 1 << bit % 8;
        feed(f, reply, 24);
        g_assert_cmpint(f->core.state, ==, INTROSPECTION_IDLE);
        fake_free(f);
    }
}

/* The vector of HANDSHAKE in the documentation, so that it stays true. */
static void test_known_sha1(void)
{
    static const uint8_t hash[20] = {
        0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e,
        0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d
    };
    Fake *f = fake_new(INTROSPECTION_CORE_SHA1);
    uint8_t reply[24];

    g_free(f->core.key);
    f->core.key = g_memdup2("abc", 3);
    f->core.key_size = 3;
    introspection_core_opened(&f->core);
    plain_reply(reply, 24);
    memcpy(reply + 4, hash, 20);
    feed(f, reply, 24);
    g_assert_cmpint(f->core.state, ==, INTROSPECTION_HOOKED);
    fake_free(f);
}

static void test_send_fails(void)
{
    Fake *f = fake_new(0);

    f->send_fails = true;
    introspection_core_opened(&f->core);
    expect(f, "connect HELLO send(104) disconnect IDLE");
    expect_reason(f, "cannot be sent");

    /* The character device may tell of the end from within. */
    f->closed_by_send = true;
    introspection_core_opened(&f->core);
    expect(f, "HELLO send(104) IDLE");
    fake_free(f);
}

static void test_hook_fails(void)
{
    uint8_t reply[24];
    Fake *f = fake_new(0);

    f->hook_fails = true;
    plain_reply(reply, sizeof(reply));
    introspection_core_opened(&f->core);
    g_string_truncate(f->log, 0);
    feed(f, reply, sizeof(reply));
    /* What was not hooked is not unhooked: it may be another's. */
    expect(f, "hook disconnect IDLE");
    expect_reason(f, "not hooked");
    g_assert_cmpint(f->timer, ==, -1);

    f->hook_fails = false;
    fake_hooked(f);
    fake_free(f);
}

static void test_closed(void)
{
    Fake *f = fake_new(0);

    introspection_core_closed(&f->core);
    expect(f, "connect");
    introspection_core_opened(&f->core);
    g_string_truncate(f->log, 0);
    introspection_core_closed(&f->core);
    expect(f, "IDLE");
    expect_reason(f, "instead of answering");
    g_assert_cmpint(f->timer, ==, -1);

    fake_hooked(f);
    introspection_core_closed(&f->core);
    expect(f, "unhook IDLE");
    expect_reason(f, "disconnected");
    introspection_core_closed(&f->core);
    expect(f, "");
    fake_free(f);
}

static void test_release(void)
{
    Fake *f = fake_new(0);

    /* Nobody there. */
    g_assert_false(introspection_core_release(&f->core));
    expect(f, "connect");

    /* Somebody who has not introduced himself yet. */
    introspection_core_opened(&f->core);
    g_string_truncate(f->log, 0);
    g_assert_false(introspection_core_release(&f->core));
    expect(f, "disconnect IDLE");

    /* The tool goes, as it was asked to: nothing is wrong. */
    fake_hooked(f);
    g_assert_true(introspection_core_release(&f->core));
    expect(f, "preunhook UNHOOKING");
    g_assert_cmpint(f->timer, ==, 60000);
    g_assert_true(introspection_core_release(&f->core));
    expect(f, "");
    introspection_core_closed(&f->core);
    expect(f, "unhook IDLE");
    g_assert_null(f->reason);
    g_assert_cmpint(f->timer, ==, -1);

    /* It does not. */
    fake_hooked(f);
    g_assert_true(introspection_core_release(&f->core));
    g_string_truncate(f->log, 0);
    introspection_core_timeout(&f->core);
    expect(f, "unhook disconnect IDLE");
    expect_reason(f, "does not disconnect");

    /* It cannot be asked. */
    fake_hooked(f);
    f->preunhook_fails = true;
    g_assert_false(introspection_core_release(&f->core));
    expect(f, "preunhook unhook disconnect IDLE");
    f->preunhook_fails = false;

    /* It is not to be asked. */
    fake_hooked(f);
    f->core.unhook_timeout = 0;
    g_assert_false(introspection_core_release(&f->core));
    expect(f, "unhook disconnect IDLE");
    fake_free(f);
}

/* stop and cont at once, or cont before the tool has gone. */
static void test_stop_cont(void)
{
    Fake *f = fake_new(0);

    fake_hooked(f);
    introspection_core_allow(&f->core, false);
    expect(f, "suspend");
    g_assert_true(introspection_core_release(&f->core));
    expect(f, "preunhook UNHOOKING");
    introspection_core_allow(&f->core, true);
    expect(f, "connect");
    /* That cancels nothing: who waits is woken. */
    g_assert_cmpint(f->core.state, ==, INTROSPECTION_UNHOOKING);
    introspection_core_closed(&f->core);
    expect(f, "unhook IDLE");
    fake_hooked(f);

    /* Without anybody asking, a guest that is stopped stays hooked. */
    introspection_core_allow(&f->core, false);
    expect(f, "suspend");
    g_assert_cmpint(f->core.state, ==, INTROSPECTION_HOOKED);
    introspection_core_closed(&f->core);
    expect(f, "unhook IDLE");

    /* A connection that was on its way. */
    introspection_core_opened(&f->core);
    expect(f, "disconnect");

    /* The same is said once. */
    introspection_core_allow(&f->core, false);
    expect(f, "");

    introspection_core_allow(&f->core, true);
    introspection_core_opened(&f->core);
    g_string_truncate(f->log, 0);
    introspection_core_allow(&f->core, false);
    expect(f, "suspend disconnect IDLE");
    fake_free(f);
}

static void test_drop(void)
{
    Fake *f = fake_new(0);

    introspection_core_drop(&f->core, "reset");
    expect(f, "connect");
    introspection_core_opened(&f->core);
    g_string_truncate(f->log, 0);
    introspection_core_drop(&f->core, "reset");
    expect(f, "disconnect IDLE");
    fake_hooked(f);
    introspection_core_drop(&f->core, "reset");
    expect(f, "unhook disconnect IDLE");
    expect_reason(f, "reset");
    fake_hooked(f);
    g_assert_true(introspection_core_release(&f->core));
    g_string_truncate(f->log, 0);
    introspection_core_drop(&f->core, "reset");
    expect(f, "unhook disconnect IDLE");
    g_assert_cmpint(f->timer, ==, -1);
    fake_free(f);
}

static void test_names(void)
{
    static const char *bad[] = { "", "VM-GET-INFO", "vm_get_info", "-1",
                                 "4294967295", "65536", "8x", " 8", "all" };
    Error *err = NULL;
    size_t i;

    g_assert_cmpint(introspection_command_id("vm-read-physical",
                                             &error_abort), ==, 12);
    g_assert_cmpint(introspection_command_id("vcpu-translate-gva",
                                             &error_abort), ==, 29);
    g_assert_cmpint(introspection_command_id("8", &error_abort), ==, 8);
    g_assert_cmpint(introspection_command_id("0x1f", &error_abort), ==, 31);
    g_assert_cmpint(introspection_event_id("unhook", &error_abort), ==, 0);
    g_assert_cmpint(introspection_event_id("singlestep", &error_abort), ==,
                    19);
    g_assert_cmpint(introspection_event_id("0", &error_abort), ==, 0);
    for (i = 0; i < ARRAY_SIZE(bad); i++) {
        g_assert_cmpint(introspection_command_id(bad[i], &err), ==, -1);
        g_assert_nonnull(err);
        error_free(err);
        err = NULL;
    }
    g_assert_cmpint(introspection_event_id("vm-get-info", &err), ==, -1);
    g_assert_nonnull(strstr(error_get_pretty(err), "vm-get-info"));
    error_free(err);
}

/*
 * Whatever happens, in whatever order: hook and unhook alternate, each
 * connection ends, a timer runs in the two states that others wait for, and
 * only there.
 */
static void test_any_order(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    uint8_t reply[24];
    unsigned i, hooks = 0;
    bool is_hooked = false, connected = false, was, now;
    Fake *f = fake_new(0);

    plain_reply(reply, sizeof(reply));
    for (i = 0; i < 200000; i++) {
        was = is_hooked;
        g_string_truncate(f->log, 0);
        f->hook_fails = !g_rand_int_range(rand, 0, 4);
        f->preunhook_fails = !g_rand_int_range(rand, 0, 4);
        switch (g_rand_int_range(rand, 0, 8)) {
        case 0:
            if (!connected) {
                connected = true;
                introspection_core_opened(&f->core);
            }
            break;
        case 1:
            if (connected) {
                connected = false;
                introspection_core_closed(&f->core);
            }
            break;
        case 2:
        case 3:
            if (connected) {
                feed(f, reply, sizeof(reply));
            }
            break;
        case 4:
            introspection_core_allow(&f->core, g_rand_boolean(rand));
            break;
        case 5:
            introspection_core_release(&f->core);
            break;
        case 6:
            if (f->timer >= 0) {
                f->timer = -1;
                introspection_core_timeout(&f->core);
            }
            break;
        case 7:
            if (!g_rand_int_range(rand, 0, 4)) {
                introspection_core_drop(&f->core, "reset");
            }
            break;
        }
        if (strstr(f->log->str, "disconnect")) {
            connected = false;
        }
        now = f->core.state == INTROSPECTION_HOOKED ||
              f->core.state == INTROSPECTION_UNHOOKING;
        g_assert_true(now == was || (now ? strstr(f->log->str, "hook HOOKED") :
                                     strstr(f->log->str, "unhook")) != NULL);
        g_assert_true(!!strstr(f->log->str, "unhook ") == (was && !now) ||
                      strstr(f->log->str, "preunhook "));
        g_assert_true((f->timer >= 0) ==
                      (f->core.state == INTROSPECTION_HELLO ||
                       f->core.state == INTROSPECTION_UNHOOKING));
        g_assert_true(connected || f->core.state == INTROSPECTION_IDLE);
        hooks += now && !was;
        is_hooked = now;
    }
    g_assert_cmpuint(hooks, >, 1000);
    fake_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(qcrypto_init(NULL), ==, 0);

    g_test_add_func("/introspection/hello", test_hello);
    g_test_add_func("/introspection/challenge", test_challenge);
    g_test_add_func("/introspection/split", test_split);
    g_test_add_func("/introspection/bytes", test_bytes);
    g_test_add_func("/introspection/nothing-eaten", test_nothing_eaten);
    g_test_add_func("/introspection/impossible-size", test_impossible_size);
    g_test_add_func("/introspection/silence", test_silence);
    g_test_add_func("/introspection/timeouts", test_timeouts);
    g_test_add_func("/introspection/auth", test_auth);
    g_test_add_func("/introspection/known-sha1", test_known_sha1);
    g_test_add_func("/introspection/send-fails", test_send_fails);
    g_test_add_func("/introspection/hook-fails", test_hook_fails);
    g_test_add_func("/introspection/closed", test_closed);
    g_test_add_func("/introspection/release", test_release);
    g_test_add_func("/introspection/stop-cont", test_stop_cont);
    g_test_add_func("/introspection/drop", test_drop);
    g_test_add_func("/introspection/names", test_names);
    g_test_add_func("/introspection/any-order", test_any_order);
    return g_test_run();
}
