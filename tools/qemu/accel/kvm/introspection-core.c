/*
 * KVM introspection: the handshake with the tool, and what state the
 * connection is in
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "crypto/hash.h"
#include "crypto/hmac.h"
#include "crypto/random.h"
#include "introspection-core.h"
#include "qemu/ctype.h"
#include "qemu/cutils.h"

QEMU_BUILD_BUG_ON(sizeof(IntrospectionHello) != INTROSPECTION_HELLO_SIZE);
QEMU_BUILD_BUG_ON(offsetof(IntrospectionHello, auth) !=
                  INTROSPECTION_HELLO_BASIC_SIZE);
QEMU_BUILD_BUG_ON(sizeof(IntrospectionReply) != INTROSPECTION_REPLY_HMAC);
QEMU_BUILD_BUG_ON(offsetof(IntrospectionReply, hmac) !=
                  INTROSPECTION_REPLY_MIN);

void introspection_core_init(IntrospectionCore *core,
                             const IntrospectionCoreOps *ops, void *opaque)
{
    core->ops = ops;
    core->opaque = opaque;
    core->state = INTROSPECTION_IDLE;
}

void introspection_core_destroy(IntrospectionCore *core)
{
    assert(core->state == INTROSPECTION_IDLE);
    g_free(core->key);
    core->key = NULL;
}

/* To be the last thing that is done: others look at the state now. */
static void enter(IntrospectionCore *core, IntrospectionCoreState state,
                  const char *reason)
{
    core->state = state;
    core->ops->changed(core->opaque, state, reason);
}

static bool hooked(const IntrospectionCore *core)
{
    return core->state == INTROSPECTION_HOOKED ||
           core->state == INTROSPECTION_UNHOOKING;
}

void introspection_core_drop(IntrospectionCore *core, const char *reason)
{
    if (core->state == INTROSPECTION_IDLE) {
        return;
    }
    core->ops->timer(core->opaque, -1);
    if (hooked(core)) {
        core->ops->unhook(core->opaque);
    }
    core->ops->disconnect(core->opaque);
    enter(core, INTROSPECTION_IDLE, reason);
}

void introspection_core_closed(IntrospectionCore *core)
{
    const char *reason = NULL;

    switch (core->state) {
    case INTROSPECTION_IDLE:
        return;
    case INTROSPECTION_HELLO:
        reason = "the tool has closed the connection instead of answering";
        break;
    case INTROSPECTION_HOOKED:
        reason = "the tool has disconnected";
        break;
    case INTROSPECTION_UNHOOKING:
        break;
    }

    core->ops->timer(core->opaque, -1);
    if (hooked(core)) {
        core->ops->unhook(core->opaque);
    }
    enter(core, INTROSPECTION_IDLE, reason);
}

void introspection_core_allow(IntrospectionCore *core, bool allow)
{
    if (core->allowed == allow) {
        return;
    }
    core->allowed = allow;
    core->ops->connect(core->opaque, allow);
    if (!allow && core->state == INTROSPECTION_HELLO) {
        introspection_core_drop(core, NULL);
    }
}

void introspection_core_opened(IntrospectionCore *core)
{
    IntrospectionHello *hello = &core->hello;
    g_autoptr(Error) err = NULL;

    /* It was on its way when connections ceased to be wanted. */
    if (!core->allowed || core->state != INTROSPECTION_IDLE) {
        core->ops->disconnect(core->opaque);
        return;
    }

    memset(hello, 0, sizeof(*hello));
    core->ops->describe(core->opaque, hello);
    hello->name[sizeof(hello->name) - 1] = 0;
    hello->struct_size = INTROSPECTION_HELLO_BASIC_SIZE;
    if (core->auth & INTROSPECTION_CORE_HMAC_SHA256) {
        hello->struct_size = sizeof(*hello);
        hello->auth = core->auth;
        if (qcrypto_random_bytes(hello->challenge, sizeof(hello->challenge),
                                 &err) < 0) {
            core->ops->disconnect(core->opaque);
            core->ops->changed(core->opaque, core->state,
                               error_get_pretty(err));
            return;
        }
    }

    core->got = 0;
    memset(core->reply, 0, sizeof(core->reply));
    enter(core, INTROSPECTION_HELLO, NULL);
    core->ops->timer(core->opaque, (int64_t)core->handshake_timeout * 1000);
    if (!core->ops->send(core->opaque, hello, hello->struct_size)) {
        introspection_core_drop(core, "the hello cannot be sent");
    }
}

static uint32_t reply_size(const IntrospectionCore *core)
{
    uint32_t size;

    memcpy(&size, core->reply, sizeof(size));
    return size;
}

uint32_t introspection_core_can_receive(const IntrospectionCore *core)
{
    if (core->state != INTROSPECTION_HELLO) {
        return 0;
    }
    /* How long the reply is, is known only after its first four bytes. */
    return (core->got < sizeof(uint32_t) ? sizeof(uint32_t)
                                         : reply_size(core)) - core->got;
}

/* That takes the same time wherever the difference is. */
static bool same(const uint8_t *a, const uint8_t *b, size_t size)
{
    uint8_t differ = 0;
    size_t i;

    for (i = 0; i < size; i++) {
        differ |= a[i] ^ b[i];
    }
    return !differ;
}

static bool check_sha1(IntrospectionCore *core, const IntrospectionReply *reply,
                       Error **errp)
{
    g_autofree uint8_t *hash = NULL;
    size_t size = 0;

    if (qcrypto_hash_bytes(QCRYPTO_HASH_ALGO_SHA1, (char *)core->key,
                           core->key_size, &hash, &size, errp) < 0) {
        return false;
    }
    assert(size == sizeof(reply->cookie_hash));
    if (!same(hash, reply->cookie_hash, size)) {
        error_setg(errp, "the tool does not have the key");
        return false;
    }
    return true;
}

static bool check_hmac(IntrospectionCore *core, const IntrospectionReply *reply,
                       Error **errp)
{
    g_autoptr(QCryptoHmac) hmac = NULL;
    g_autofree uint8_t *digest = NULL;
    size_t size = 0;

    hmac = qcrypto_hmac_new(QCRYPTO_HASH_ALGO_SHA256, core->key,
                            core->key_size, errp);
    if (!hmac || qcrypto_hmac_bytes(hmac, (char *)&core->hello,
                                    core->hello.struct_size, &digest, &size,
                                    errp) < 0) {
        return false;
    }
    assert(size == sizeof(reply->hmac));
    if (!same(digest, reply->hmac, size)) {
        error_setg(errp, "the tool does not have the key");
        return false;
    }
    return true;
}

static bool check_reply(IntrospectionCore *core, Error **errp)
{
    IntrospectionReply reply;

    memcpy(&reply, core->reply, sizeof(reply));
    if (!core->auth) {
        return true;
    }
    if ((core->auth & INTROSPECTION_CORE_HMAC_SHA256) &&
        reply.struct_size >= INTROSPECTION_REPLY_HMAC &&
        check_hmac(core, &reply, NULL)) {
        return true;
    }
    if (core->auth & INTROSPECTION_CORE_SHA1) {
        return check_sha1(core, &reply, errp);
    }
    if (reply.struct_size < INTROSPECTION_REPLY_HMAC) {
        error_setg(errp, "the tool does not answer the challenge, and SHA-1 "
                   "is not accepted");
        return false;
    }
    return check_hmac(core, &reply, errp);
}

static void handshake_done(IntrospectionCore *core)
{
    g_autoptr(Error) err = NULL;

    if (!check_reply(core, &err) || !core->ops->hook(core->opaque, &err)) {
        introspection_core_drop(core, error_get_pretty(err));
        return;
    }
    core->ops->timer(core->opaque, -1);
    enter(core, INTROSPECTION_HOOKED, NULL);
}

void introspection_core_receive(IntrospectionCore *core, const uint8_t *data,
                                size_t size)
{
    uint32_t n;

    while (size && core->state == INTROSPECTION_HELLO) {
        n = MIN(size, introspection_core_can_receive(core));
        if (core->got < sizeof(core->reply)) {
            memcpy(core->reply + core->got, data,
                   MIN(n, sizeof(core->reply) - core->got));
        }
        core->got += n;
        data += n;
        size -= n;

        if (core->got < sizeof(uint32_t)) {
            continue;
        }
        if (reply_size(core) < INTROSPECTION_REPLY_MIN ||
            reply_size(core) > INTROSPECTION_REPLY_MAX) {
            introspection_core_drop(core, "the tool's answer has an impossible "
                                    "size: is it an introspection tool?");
            return;
        }
        if (core->got == reply_size(core)) {
            /* Bytes too many were taken from KVM: no use to go on. */
            if (size) {
                introspection_core_drop(core, "more was read than the answer");
                return;
            }
            handshake_done(core);
        }
    }
}

void introspection_core_timeout(IntrospectionCore *core)
{
    switch (core->state) {
    case INTROSPECTION_HELLO:
        introspection_core_drop(core, "the tool does not answer");
        break;
    case INTROSPECTION_UNHOOKING:
        introspection_core_drop(core, "the tool does not disconnect");
        break;
    default:
        break;
    }
}

bool introspection_core_release(IntrospectionCore *core)
{
    switch (core->state) {
    case INTROSPECTION_IDLE:
        return false;
    case INTROSPECTION_HELLO:
        introspection_core_drop(core, NULL);
        return false;
    case INTROSPECTION_HOOKED:
        if (!core->unhook_timeout || !core->ops->preunhook(core->opaque)) {
            introspection_core_drop(core, NULL);
            return false;
        }
        core->ops->timer(core->opaque, (int64_t)core->unhook_timeout * 1000);
        enter(core, INTROSPECTION_UNHOOKING, NULL);
        return true;
    case INTROSPECTION_UNHOOKING:
        return true;
    }
    g_assert_not_reached();
}

typedef struct Name {
    uint16_t id;
    const char *name;
} Name;

static const Name commands[] = {
    { 2, "get-version" },
    { 3, "vcpu-get-info" },
    { 4, "vm-check-command" },
    { 5, "vcpu-control-events" },
    { 6, "vm-check-event" },
    { 7, "vcpu-get-registers" },
    { 8, "vm-get-info" },
    { 9, "vcpu-set-registers" },
    { 10, "vm-control-events" },
    { 11, "vcpu-get-cpuid" },
    { 12, "vm-read-physical" },
    { 13, "vcpu-control-cr" },
    { 14, "vm-write-physical" },
    { 15, "vcpu-inject-exception" },
    { 16, "vm-pause-vcpu" },
    { 17, "vcpu-get-xcr" },
    { 18, "vm-control-cleanup" },
    { 19, "vcpu-get-xsave" },
    { 20, "vm-get-max-gfn" },
    { 21, "vcpu-set-xsave" },
    { 22, "vm-set-page-access" },
    { 23, "vcpu-get-mtrr-type" },
    { 25, "vcpu-control-msr" },
    { 27, "vcpu-control-singlestep" },
    { 29, "vcpu-translate-gva" },
    { }
};

static const Name events[] = {
    { 0, "unhook" },
    { 1, "pause" },
    { 3, "hypercall" },
    { 5, "breakpoint" },
    { 7, "cr" },
    { 9, "trap" },
    { 11, "xsetbv" },
    { 13, "descriptor" },
    { 15, "msr" },
    { 17, "pf" },
    { 19, "singlestep" },
    { }
};

static int find_id(const Name *known, const char *what, const char *name,
                   Error **errp)
{
    g_autoptr(GString) names = NULL;
    const Name *n;
    int number;

    for (n = known; n->name; n++) {
        if (g_str_equal(name, n->name)) {
            return n->id;
        }
    }
    /* KVM may know more than we do: it is asked later. */
    if (qemu_isdigit(*name) && !qemu_strtoi(name, NULL, 0, &number) &&
        number <= UINT16_MAX) {
        return number;
    }

    names = g_string_new(NULL);
    for (n = known; n->name; n++) {
        g_string_append_printf(names, "%s%s", n == known ? "" : ", ", n->name);
    }
    error_setg(errp, "there is no introspection %s '%s'", what, name);
    error_append_hint(errp, "There are %s; or use a number.\n", names->str);
    return -1;
}

int introspection_command_id(const char *name, Error **errp)
{
    return find_id(commands, "command", name, errp);
}

int introspection_event_id(const char *name, Error **errp)
{
    return find_id(events, "event", name, errp);
}
