/*
 * KVM introspection: offers the guest to an introspection tool
 *
 * A character device connects to the tool. After a handshake, see
 * introspection-core.c, KVM gets the socket, and the tool talks to KVM. What
 * remains to be done here is to end that whenever the guest is stopped, saved,
 * migrated or reset, and to begin again when it runs.
 *
 * All of it runs in the main loop. None of it waits: monitor commands that have
 * to wait for the tool are held by the monitor's gate, and a migration by
 * dev_unplug_pending(), until the tool is gone. That is when it has closed the
 * socket, after unhook-timeout, or earlier: when the guest is reset, the
 * character device is yanked, or QEMU is to quit (by a signal, too).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qemu/uuid.h"
#include "chardev/char-fe.h"
#include "chardev/char-socket.h"
#include "crypto/secret.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "io/channel-socket.h"
#include "migration/misc.h"
#include "migration/vmstate.h"
#include "monitor/gate.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/qapi-commands-introspection.h"
#include "qapi/qapi-events-introspection.h"
#include "qapi/qapi-types-qom.h"
#include "qapi/visitor.h"
#include "qom/object_interfaces.h"
#include "system/kvm.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "system/system.h"
#include "introspection-abi.h"
#include "introspection-core.h"

#define TYPE_INTROSPECTION "introspection"
OBJECT_DECLARE_SIMPLE_TYPE(Introspection, INTROSPECTION)

struct Introspection {
    Object parent_obj;

    char *chardev;
    char *key;
    bool has_auth;
    IntrospectionAuth auth;
    uint32_t handshake_timeout;     /* seconds */
    uint32_t unhook_timeout;        /* seconds */
    uint32_t reply_deadline;        /* milliseconds */
    bool unhook_on_shutdown;
    strList *commands;
    strList *events;
    bool has_commands;
    bool has_events;
    GArray *command_ids;            /* of int32_t */
    GArray *event_ids;
    bool complete;

    IntrospectionCore core;
    int64_t start_time;
    uint64_t hooks;
    char *reason;

    CharBackend chr;
    int64_t reconnect_time_ms;
    QEMUBH *bh;
    bool disconnect;
    QEMUTimer *timer;
    QEMUTimer *recheck;

    /* Why there should be no connection now, see update(). */
    unsigned held;                  /* monitor commands */
    int64_t settling;               /* until when, by QEMU_CLOCK_REALTIME */
    bool migrating;
    bool stopped;
    bool ending;
    /* For the migration thread: KVM has the socket; it waits for that. */
    bool hooked;
    bool awaited;

    IntrospectionState told_state;
    bool told;

    MonitorGate gate;
    VMChangeStateEntry *vm_change;
    NotifierWithReturn migration[MIG_MODE__MAX];
    Notifier shutdown;
};

/* There is one VM, and so one object. */
static Introspection *the_object;

/* How long a command may take to begin what it does, if not at once. */
#define SETTLE_MS 1000

/* ------------------------------------------------------------------------ */
/* What others are told */

static IntrospectionState introspection_state(Introspection *s)
{
    switch (s->core.state) {
    case INTROSPECTION_IDLE:
        return s->core.allowed ? INTROSPECTION_STATE_CONNECTING
                               : INTROSPECTION_STATE_SUSPENDED;
    case INTROSPECTION_HELLO:
        return INTROSPECTION_STATE_HANDSHAKE;
    case INTROSPECTION_HOOKED:
        return INTROSPECTION_STATE_HOOKED;
    case INTROSPECTION_UNHOOKING:
        return INTROSPECTION_STATE_UNHOOKING;
    }
    g_assert_not_reached();
}

static const char *introspection_id(Introspection *s)
{
    return object_get_canonical_path_component(OBJECT(s));
}

static void introspection_tell(Introspection *s, const char *reason)
{
    IntrospectionState state = introspection_state(s);

    if (s->told && s->told_state == state && !reason) {
        return;
    }
    s->told = true;
    s->told_state = state;
    if (introspection_id(s)) {
        qapi_event_send_introspection_state(introspection_id(s), state,
                                            reason);
    }
}

IntrospectionInfoList *qmp_query_introspection(Error **errp)
{
    IntrospectionInfoList *list = NULL;
    IntrospectionInfo *info;
    Introspection *s = the_object;

    if (s) {
        info = g_new0(IntrospectionInfo, 1);
        info->id = g_strdup(introspection_id(s));
        info->chardev = g_strdup(s->chardev);
        info->state = introspection_state(s);
        info->reason = g_strdup(s->reason);
        info->has_auth = s->key;
        info->auth = s->auth;
        info->start_time = s->start_time;
        info->hooks = s->hooks;
        QAPI_LIST_PREPEND(list, info);
    }
    return list;
}

/* ------------------------------------------------------------------------ */
/* The connection */

/* The character devices are gone before the objects when QEMU ends. */
static SocketChardev *introspection_socket(Introspection *s)
{
    return s->chr.chr ? SOCKET_CHARDEV(s->chr.chr) : NULL;
}

/* Have the character device not connect by itself any more. */
static void introspection_suspend(Introspection *s)
{
    SocketChardev *sock = introspection_socket(s);

    if (!sock) {
        return;
    }
    if (sock->state == TCP_CHARDEV_STATE_CONNECTING) {
        /*
         * It would try again without a pause if it does not succeed. Should it
         * succeed, it is closed.
         */
        timer_mod(s->recheck,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + SETTLE_MS);
        return;
    }
    sock->reconnect_time_ms = 0;
    if (sock->reconnect_timer) {
        g_source_destroy(sock->reconnect_timer);
        g_source_unref(sock->reconnect_timer);
        sock->reconnect_timer = NULL;
    }
}

/*
 * The character device tells of the end of a connection with its lock held, so
 * what is to be done with it is done later.
 */
static void introspection_bh(void *opaque)
{
    Introspection *s = opaque;
    SocketChardev *sock = introspection_socket(s);

    if (!sock) {
        return;
    }
    if (s->disconnect) {
        s->disconnect = false;
        if (sock->state == TCP_CHARDEV_STATE_CONNECTED) {
            qemu_chr_fe_disconnect(&s->chr);
        }
    }
    /* To disconnect again starts its timer. */
    if (s->core.allowed && sock->state == TCP_CHARDEV_STATE_DISCONNECTED &&
        !sock->reconnect_timer) {
        qemu_chr_fe_disconnect(&s->chr);
    }
}

static void introspection_op_connect(void *opaque, bool enable)
{
    Introspection *s = opaque;
    SocketChardev *sock = introspection_socket(s);

    if (!enable) {
        introspection_suspend(s);
    } else if (sock) {
        sock->reconnect_time_ms = s->reconnect_time_ms;
        qemu_bh_schedule(s->bh);
    }
    if (s->core.state == INTROSPECTION_IDLE) {
        introspection_tell(s, NULL);
    }
}

static void introspection_op_disconnect(void *opaque)
{
    Introspection *s = opaque;

    if (!s->core.allowed) {
        introspection_suspend(s);
    }
    s->disconnect = true;
    qemu_bh_schedule(s->bh);
}

static bool introspection_op_send(void *opaque, const void *data, size_t size)
{
    Introspection *s = opaque;

    /*
     * Not qemu_chr_fe_write_all(), which waits for any time: there is room for
     * a few bytes in a socket that is new.
     */
    return qemu_chr_fe_write(&s->chr, data, size) == size;
}

static int introspection_can_read(void *opaque)
{
    Introspection *s = opaque;

    return introspection_core_can_receive(&s->core);
}

static void introspection_read(void *opaque, const uint8_t *buf, int size)
{
    Introspection *s = opaque;

    introspection_core_receive(&s->core, buf, size);
}

static void introspection_event(void *opaque, QEMUChrEvent event)
{
    Introspection *s = opaque;

    switch (event) {
    case CHR_EVENT_OPENED:
        introspection_core_opened(&s->core);
        break;
    case CHR_EVENT_CLOSED:
        s->disconnect = false;
        introspection_core_closed(&s->core);
        break;
    default:
        break;
    }
}

static void introspection_op_timer(void *opaque, int64_t ms)
{
    Introspection *s = opaque;

    if (ms < 0) {
        timer_del(s->timer);
    } else {
        timer_mod(s->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + ms);
    }
}

static void introspection_timer(void *opaque)
{
    Introspection *s = opaque;

    introspection_core_timeout(&s->core);
}

static bool introspection_end_of_ram(Int128 start, Int128 len,
                                     const MemoryRegion *mr,
                                     hwaddr offset_in_region, void *opaque)
{
    uint64_t *end = opaque;

    if (memory_region_is_ram((MemoryRegion *)mr) && !mr->readonly &&
        !memory_region_is_ram_device((MemoryRegion *)mr)) {
        *end = int128_get64(int128_add(start, len));
    }
    return false;
}

static void introspection_op_describe(void *opaque, IntrospectionHello *hello)
{
    Introspection *s = opaque;
    uint64_t max_gpa = 0;

    memcpy(hello->uuid, qemu_uuid.data, sizeof(hello->uuid));
    hello->start_time = s->start_time;
    pstrcpy(hello->name, sizeof(hello->name), qemu_get_vm_name() ?: "");
    WITH_RCU_READ_LOCK_GUARD() {
        FlatView *view = address_space_to_flatview(&address_space_memory);

        flatview_for_each_range(view, introspection_end_of_ram, &max_gpa);
    }
    hello->max_gpa = max_gpa;
}

/* ------------------------------------------------------------------------ */
/* KVM */

static bool introspection_allow(unsigned long ioctl, const char *what,
                                GArray *ids, Error **errp)
{
    struct kvm_introspection_feature feature = { .allow = 1, .id = -1 };
    unsigned i;
    int ret = 0;

    if (!ids) {
        ret = kvm_vm_ioctl(kvm_state, ioctl, &feature);
    }
    for (i = 0; ids && !ret && i < ids->len; i++) {
        feature.id = g_array_index(ids, int32_t, i);
        ret = kvm_vm_ioctl(kvm_state, ioctl, &feature);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "KVM does not allow %s %d", what,
                         feature.id);
        return false;
    }
    return true;
}

static bool introspection_op_hook(void *opaque, Error **errp)
{
    Introspection *s = opaque;
    struct kvm_introspection_hook hook = {
        .fd = introspection_socket(s)->sioc->fd,
    };
    struct kvm_introspection_deadline deadline = {
        .timeout_ms = s->reply_deadline,
    };
    int ret;

    memcpy(hook.uuid, qemu_uuid.data, sizeof(hook.uuid));
    ret = kvm_vm_ioctl(kvm_state, KVM_INTROSPECTION_HOOK, &hook);
    switch (ret) {
    case 0:
        break;
    case -EPERM:
        error_setg(errp, "introspection is switched off in KVM: load it with "
                   "kvm.introspection=1");
        return false;
    case -EEXIST:
        error_setg(errp, "the guest is introspected by something else");
        return false;
    case -EOPNOTSUPP:
        error_setg(errp, "KVM does not introspect a guest of this type");
        return false;
    default:
        error_setg_errno(errp, -ret, "KVM does not accept the connection");
        return false;
    }

    /* First what protects the guest, then what lets the tool begin. */
    if (s->reply_deadline) {
        ret = kvm_vm_ioctl(kvm_state, KVM_INTROSPECTION_DEADLINE, &deadline);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "KVM does not set the deadline");
            goto unhook;
        }
    }
    if (!introspection_allow(KVM_INTROSPECTION_EVENT, "event", s->event_ids,
                             errp) ||
        !introspection_allow(KVM_INTROSPECTION_COMMAND, "command",
                             s->command_ids, errp)) {
        goto unhook;
    }
    s->hooks++;
    return true;

unhook:
    kvm_vm_ioctl(kvm_state, KVM_INTROSPECTION_UNHOOK);
    return false;
}

static bool introspection_op_preunhook(void *opaque)
{
    /* It fails if the tool has not asked for this event. */
    return kvm_vm_ioctl(kvm_state, KVM_INTROSPECTION_PREUNHOOK) == 0;
}

static void introspection_op_unhook(void *opaque)
{
    /* That does not wait for the tool. */
    int ret = kvm_vm_ioctl(kvm_state, KVM_INTROSPECTION_UNHOOK);

    if (ret < 0) {
        error_report("introspection: KVM_INTROSPECTION_UNHOOK: %s",
                     strerror(-ret));
    }
}

static void introspection_op_changed(void *opaque,
                                     IntrospectionCoreState state,
                                     const char *reason)
{
    Introspection *s = opaque;
    const char *id = introspection_id(s) ?: "introspection";

    qatomic_set(&s->hooked, state == INTROSPECTION_HOOKED ||
                            state == INTROSPECTION_UNHOOKING);

    if (reason) {
        /* Not again and again, as the connection is. */
        if (g_strcmp0(reason, s->reason)) {
            warn_report("%s: %s", id, reason);
        }
        g_free(s->reason);
        s->reason = g_strdup(reason);
    } else if (state == INTROSPECTION_HOOKED) {
        info_report("%s: the guest is introspected", id);
        g_clear_pointer(&s->reason, g_free);
    }
    introspection_tell(s, reason);

    if (state == INTROSPECTION_IDLE) {
        monitor_gate_open(s->ending ? "The guest is shutting down" : NULL);
    }
}

static const IntrospectionCoreOps introspection_ops = {
    .describe = introspection_op_describe,
    .send = introspection_op_send,
    .hook = introspection_op_hook,
    .preunhook = introspection_op_preunhook,
    .unhook = introspection_op_unhook,
    .disconnect = introspection_op_disconnect,
    .connect = introspection_op_connect,
    .timer = introspection_op_timer,
    .changed = introspection_op_changed,
};

/* ------------------------------------------------------------------------ */
/* The guest */

/* Whether a connection is wanted depends on what is done with the guest. */
static void introspection_update(Introspection *s)
{
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    bool allow = !s->held && !s->migrating && !s->ending;

    if (allow && s->settling > now) {
        timer_mod(s->recheck, s->settling);
        allow = false;
    }
    if (allow && migration_in_incoming_postcopy()) {
        /*
         * KVM would wait for memory that is not here yet, for the tool. The
         * migration does not tell when it has all arrived.
         */
        timer_mod(s->recheck, now + SETTLE_MS);
        allow = false;
    }
    /* A guest that has not started yet is introspected from its beginning. */
    allow = allow && (runstate_is_running() ||
                      runstate_check(RUN_STATE_SUSPENDED) ||
                      (runstate_check(RUN_STATE_PRELAUNCH) && !s->stopped));

    introspection_core_allow(&s->core, allow);
}

static void introspection_recheck(void *opaque)
{
    Introspection *s = opaque;

    introspection_update(s);
    if (!s->core.allowed) {
        introspection_suspend(s);
    }
}

static void introspection_vm_change(void *opaque, bool running, RunState state)
{
    Introspection *s = opaque;

    s->stopped = !running;
    if (running) {
        s->ending = false;
        s->settling = 0;
    }
    introspection_update(s);
}

static void introspection_new_session(Introspection *s)
{
    s->start_time = qemu_clock_get_ms(QEMU_CLOCK_HOST) / 1000;
}

/* Also before a snapshot is loaded, which brings its start time along. */
static void introspection_reset(void *opaque)
{
    Introspection *s = opaque;

    introspection_core_drop(&s->core, NULL);
    introspection_new_session(s);
}

static void introspection_shutdown(Notifier *notifier, void *data)
{
    Introspection *s = container_of(notifier, Introspection, shutdown);

    s->ending = true;
    introspection_update(s);
    introspection_core_drop(&s->core, NULL);
}

/* Called with the BQL, but in some cases by the migration thread. */
static int introspection_migration(Introspection *s, MigrationEvent *e)
{
    s->migrating = e->type == MIG_EVENT_PRECOPY_SETUP;
    qatomic_set(&s->awaited, s->migrating);
    introspection_update(s);
    if (s->migrating) {
        introspection_core_release(&s->core);
    }
    return 0;
}

static int introspection_migration_normal(NotifierWithReturn *notifier,
                                          MigrationEvent *e, Error **errp)
{
    return introspection_migration(container_of(notifier, Introspection,
                                       migration[MIG_MODE_NORMAL]), e);
}

static int introspection_migration_reboot(NotifierWithReturn *notifier,
                                          MigrationEvent *e, Error **errp)
{
    return introspection_migration(container_of(notifier, Introspection,
                                       migration[MIG_MODE_CPR_REBOOT]), e);
}

static int introspection_migration_transfer(NotifierWithReturn *notifier,
                                            MigrationEvent *e, Error **errp)
{
    return introspection_migration(container_of(notifier, Introspection,
                                       migration[MIG_MODE_CPR_TRANSFER]), e);
}

static const MigrationNotifyFunc introspection_migrations[MIG_MODE__MAX] = {
    [MIG_MODE_NORMAL] = introspection_migration_normal,
    [MIG_MODE_CPR_REBOOT] = introspection_migration_reboot,
    [MIG_MODE_CPR_TRANSFER] = introspection_migration_transfer,
};

/*
 * The migration thread asks this, four times a second, before it begins to copy
 * the guest; and for 30 seconds more if it is cancelled, for devices that have
 * to be plugged in again. That is not for us.
 */
static bool introspection_unplug_pending(void *opaque)
{
    Introspection *s = opaque;

    return qatomic_read(&s->hooked) && qatomic_read(&s->awaited);
}

/* What the tool does to the guest must not become part of what is saved. */
static int introspection_pre_save(void *opaque)
{
    Introspection *s = opaque;

    if (qatomic_read(&s->hooked)) {
        error_report("%s: the guest cannot be saved while it is introspected",
                     introspection_id(s));
        return -EBUSY;
    }
    return 0;
}

static const VMStateDescription introspection_vmstate = {
    .name = "vm_introspection",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = introspection_pre_save,
    .dev_unplug_pending = introspection_unplug_pending,
    .fields = (const VMStateField[]) {
        VMSTATE_INT64(start_time, Introspection),
        VMSTATE_END_OF_LIST()
    }
};

static bool introspection_is_me(Introspection *s, const QDict *args)
{
    const char *id = args ? qdict_get_try_str(args, "id") : NULL;

    return id && !g_strcmp0(id, introspection_id(s));
}

static MonitorGateVerdict introspection_gate_begin(void *opaque,
                                                   const char *command,
                                                   const QDict *args)
{
    Introspection *s = opaque;
    bool mine;

    if (g_str_equal(command, "migrate_cancel")) {
        return MONITOR_GATE_PASS;
    }
    if (g_str_equal(command, "stop") || g_str_equal(command, "s")) {
        mine = runstate_is_live(runstate_get());
    } else if (g_str_equal(command, "system_powerdown")) {
        mine = s->unhook_on_shutdown;
    } else if (g_str_equal(command, "object-del") ||
               g_str_equal(command, "object_del")) {
        mine = introspection_is_me(s, args);
    } else {
        mine = g_str_equal(command, "savevm") ||
               g_str_equal(command, "snapshot-save");
    }
    if (!mine) {
        return MONITOR_GATE_NONE;
    }

    s->held++;
    introspection_update(s);
    return introspection_core_release(&s->core) ? MONITOR_GATE_WAIT
                                                : MONITOR_GATE_PASS;
}

static void introspection_gate_end(void *opaque, const char *command)
{
    Introspection *s = opaque;

    if (g_str_equal(command, "migrate_cancel")) {
        qatomic_set(&s->awaited, false);
        return;
    }
    assert(s->held);
    s->held--;
    /* Snapshots are made, and guests powered down, after the command. */
    s->settling = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + SETTLE_MS;
    introspection_update(s);
}

/* ------------------------------------------------------------------------ */
/* The object */

/* KVM says what it does not know before it says that there is no connection. */
static bool introspection_known(unsigned long ioctl, int32_t id)
{
    struct kvm_introspection_feature feature = { .allow = 1, .id = id };

    return kvm_vm_ioctl(kvm_state, ioctl, &feature) != -EINVAL;
}

static GArray *introspection_ids(strList *names, unsigned long ioctl,
                                 int (*find)(const char *, Error **),
                                 const char *what, Error **errp)
{
    g_autoptr(GArray) ids = g_array_new(false, false, sizeof(int32_t));
    int32_t id;

    for (; names; names = names->next) {
        id = find(names->value, errp);
        if (id < 0) {
            return NULL;
        }
        if (!introspection_known(ioctl, id)) {
            error_setg(errp, "KVM does not know the introspection %s '%s'",
                       what, names->value);
            return NULL;
        }
        g_array_append_val(ids, id);
    }
    return g_steal_pointer(&ids);
}

static bool introspection_check_chardev(Introspection *s, Chardev *chr,
                                        Error **errp)
{
    SocketChardev *sock = (SocketChardev *)
        object_dynamic_cast(OBJECT(chr), TYPE_CHARDEV_SOCKET);

    if (!sock) {
        error_setg(errp, "chardev '%s' is not a socket", s->chardev);
        return false;
    }
    if (sock->is_listen) {
        error_setg(errp, "chardev '%s' must connect, not listen: it needs "
                   "server=off", s->chardev);
        return false;
    }
    if (sock->tls_creds || sock->is_telnet || sock->is_tn3270 ||
        sock->is_websock) {
        error_setg(errp, "chardev '%s' must be a plain socket, since KVM uses "
                   "it", s->chardev);
        return false;
    }
    if (sock->reconnect_time_ms <= 0) {
        error_setg(errp, "chardev '%s' must connect again when a connection "
                   "has ended: it needs reconnect-ms=, 1000 for example",
                   s->chardev);
        return false;
    }
    s->reconnect_time_ms = sock->reconnect_time_ms;
    return true;
}

static bool introspection_get_key(Introspection *s, Error **errp)
{
    if (!s->key) {
        if (s->has_auth) {
            error_setg(errp, "'auth' needs a 'key'");
            return false;
        }
        warn_report("%s: without a 'key', whoever answers on chardev '%s' can "
                    "introspect the guest", introspection_id(s), s->chardev);
        return true;
    }
    if (qcrypto_secret_lookup(s->key, &s->core.key, &s->core.key_size,
                              errp) < 0) {
        return false;
    }
    if (!s->core.key_size) {
        error_setg(errp, "secret '%s' is empty", s->key);
        return false;
    }
    switch (s->auth) {
    case INTROSPECTION_AUTH_SHA1:
        s->core.auth = INTROSPECTION_CORE_SHA1;
        break;
    case INTROSPECTION_AUTH_HMAC_SHA256:
        s->core.auth = INTROSPECTION_CORE_HMAC_SHA256;
        break;
    default:
        s->core.auth = INTROSPECTION_CORE_SHA1 | INTROSPECTION_CORE_HMAC_SHA256;
        break;
    }
    return true;
}

static void introspection_complete(UserCreatable *uc, Error **errp)
{
    Introspection *s = INTROSPECTION(uc);
    Chardev *chr;
    int mode;

    if (the_object) {
        error_setg(errp, "there can be only one object of type "
                   TYPE_INTROSPECTION ", and there is '%s'",
                   introspection_id(the_object));
        return;
    }
    if (!s->chardev) {
        error_setg(errp, "'chardev' is missing");
        return;
    }
    if (!kvm_enabled()) {
        error_setg(errp, "introspection needs KVM (-accel kvm)");
        return;
    }
    if (kvm_check_extension(kvm_state, KVM_CAP_INTROSPECTION) <= 0) {
        error_setg(errp, "this host's KVM offers no introspection");
        error_append_hint(errp, "The kernel needs CONFIG_KVM_INTROSPECTION, "
                          "and kvm.introspection=1 to switch it on.\n");
        return;
    }
    chr = qemu_chr_find(s->chardev);
    if (!chr) {
        error_setg(errp, "there is no chardev '%s'", s->chardev);
        return;
    }
    if (s->has_commands) {
        s->command_ids = introspection_ids(s->commands,
                                           KVM_INTROSPECTION_COMMAND,
                                           introspection_command_id,
                                           "command", errp);
        if (!s->command_ids) {
            return;
        }
    }
    if (s->has_events) {
        s->event_ids = introspection_ids(s->events, KVM_INTROSPECTION_EVENT,
                                         introspection_event_id, "event",
                                         errp);
        if (!s->event_ids) {
            return;
        }
    }
    if (!introspection_check_chardev(s, chr, errp) ||
        !introspection_get_key(s, errp) ||
        !qemu_chr_fe_init(&s->chr, chr, errp)) {
        return;
    }

    introspection_core_init(&s->core, &introspection_ops, s);
    s->core.handshake_timeout = s->handshake_timeout;
    s->core.unhook_timeout = s->unhook_timeout;

    s->bh = qemu_bh_new(introspection_bh, s);
    s->timer = timer_new_ms(QEMU_CLOCK_REALTIME, introspection_timer, s);
    s->recheck = timer_new_ms(QEMU_CLOCK_REALTIME, introspection_recheck, s);
    s->stopped = runstate_check(RUN_STATE_PAUSED);
    introspection_new_session(s);

    vmstate_register(NULL, 0, &introspection_vmstate, s);
    qemu_register_reset(introspection_reset, s);
    s->vm_change = qemu_add_vm_change_state_handler(introspection_vm_change, s);
    s->shutdown.notify = introspection_shutdown;
    qemu_register_shutdown_notifier(&s->shutdown);
    for (mode = 0; mode < MIG_MODE__MAX; mode++) {
        migration_add_notifier_mode(&s->migration[mode],
                                    introspection_migrations[mode], mode);
    }
    /* One that is on its way already is not told of any more. */
    s->migrating = migration_is_running();
    s->gate.begin = introspection_gate_begin;
    s->gate.end = introspection_gate_end;
    s->gate.opaque = s;
    monitor_gate_set(&s->gate);

    the_object = s;
    s->complete = true;

    introspection_update(s);
    if (!s->core.allowed) {
        introspection_suspend(s);
    }
    qemu_chr_fe_set_handlers(&s->chr, introspection_can_read,
                             introspection_read, introspection_event, NULL, s,
                             NULL, true);
}

static bool introspection_can_be_deleted(UserCreatable *uc)
{
    /* object-del has had the gate see to that. */
    return !INTROSPECTION(uc)->hooked;
}

static void introspection_finalize(Object *obj)
{
    Introspection *s = INTROSPECTION(obj);
    SocketChardev *sock = introspection_socket(s);
    int mode;

    if (s->complete) {
        monitor_gate_set(NULL);
        for (mode = 0; mode < MIG_MODE__MAX; mode++) {
            migration_remove_notifier(&s->migration[mode]);
        }
        notifier_remove(&s->shutdown);
        qemu_del_vm_change_state_handler(s->vm_change);
        qemu_unregister_reset(introspection_reset, s);
        vmstate_unregister(NULL, &introspection_vmstate, s);

        introspection_core_allow(&s->core, false);
        introspection_core_drop(&s->core, NULL);
        if (sock) {
            /* Neither goes on without us, nor is useless to another. */
            if (sock->state == TCP_CHARDEV_STATE_CONNECTED) {
                qemu_chr_fe_disconnect(&s->chr);
            }
            sock->reconnect_time_ms = s->reconnect_time_ms;
        }
        timer_free(s->recheck);
        timer_free(s->timer);
        qemu_bh_delete(s->bh);
        introspection_core_destroy(&s->core);
        the_object = NULL;
    } else {
        g_free(s->core.key);
    }
    qemu_chr_fe_deinit(&s->chr, false);

    g_clear_pointer(&s->command_ids, g_array_unref);
    g_clear_pointer(&s->event_ids, g_array_unref);
    qapi_free_strList(s->commands);
    qapi_free_strList(s->events);
    g_free(s->reason);
    g_free(s->chardev);
    g_free(s->key);
}

/* ------------------------------------------------------------------------ */
/* Properties */

static bool introspection_settable(Introspection *s, const char *name,
                                   Error **errp)
{
    if (s->complete) {
        error_setg(errp, "'%s' cannot be changed any more", name);
        return false;
    }
    return true;
}

static char *introspection_get_chardev(Object *obj, Error **errp)
{
    return g_strdup(INTROSPECTION(obj)->chardev);
}

static void introspection_set_chardev(Object *obj, const char *value,
                                      Error **errp)
{
    Introspection *s = INTROSPECTION(obj);

    if (introspection_settable(s, "chardev", errp)) {
        g_free(s->chardev);
        s->chardev = g_strdup(value);
    }
}

static char *introspection_get_key_id(Object *obj, Error **errp)
{
    return g_strdup(INTROSPECTION(obj)->key);
}

static void introspection_set_key_id(Object *obj, const char *value,
                                     Error **errp)
{
    Introspection *s = INTROSPECTION(obj);

    if (introspection_settable(s, "key", errp)) {
        g_free(s->key);
        s->key = g_strdup(value);
    }
}

static int introspection_get_auth(Object *obj, Error **errp)
{
    return INTROSPECTION(obj)->auth;
}

static void introspection_set_auth(Object *obj, int value, Error **errp)
{
    Introspection *s = INTROSPECTION(obj);

    if (introspection_settable(s, "auth", errp)) {
        s->auth = value;
        s->has_auth = true;
    }
}

static bool introspection_get_unhook_on_shutdown(Object *obj, Error **errp)
{
    return INTROSPECTION(obj)->unhook_on_shutdown;
}

static void introspection_set_unhook_on_shutdown(Object *obj, bool value,
                                                 Error **errp)
{
    INTROSPECTION(obj)->unhook_on_shutdown = value;
}

typedef struct Number {
    size_t offset;
    uint32_t min;
    uint32_t max;
} Number;

static const Number handshake_timeout = {
    offsetof(Introspection, handshake_timeout), 1, INTROSPECTION_TIMEOUT_MAX
};
static const Number unhook_timeout = {
    offsetof(Introspection, unhook_timeout), 0, INTROSPECTION_TIMEOUT_MAX
};
static const Number reply_deadline = {
    offsetof(Introspection, reply_deadline), 0, UINT32_MAX
};

static void introspection_get_number(Object *obj, Visitor *v, const char *name,
                                     void *opaque, Error **errp)
{
    const Number *number = opaque;
    uint32_t *field = (void *)obj + number->offset;
    uint32_t value = *field;

    visit_type_uint32(v, name, &value, errp);
}

static void introspection_set_number(Object *obj, Visitor *v, const char *name,
                                     void *opaque, Error **errp)
{
    const Number *number = opaque;
    uint32_t *field = (void *)obj + number->offset;
    uint32_t value;

    if (!introspection_settable(INTROSPECTION(obj), name, errp) ||
        !visit_type_uint32(v, name, &value, errp)) {
        return;
    }
    if (value < number->min || value > number->max) {
        error_setg(errp, "'%s' must be from %u to %u", name, number->min,
                   number->max);
        return;
    }
    *field = value;
}

static void introspection_set_list(Object *obj, Visitor *v, const char *name,
                                   strList **list, bool *has,
                                   int (*find)(const char *, Error **),
                                   Error **errp)
{
    strList *value, *each;

    if (!introspection_settable(INTROSPECTION(obj), name, errp) ||
        !visit_type_strList(v, name, &value, errp)) {
        return;
    }
    for (each = value; each; each = each->next) {
        if (find(each->value, errp) < 0) {
            qapi_free_strList(value);
            return;
        }
    }
    qapi_free_strList(*list);
    *list = value;
    *has = true;
}

static void introspection_get_commands(Object *obj, Visitor *v,
                                       const char *name, void *opaque,
                                       Error **errp)
{
    visit_type_strList(v, name, &INTROSPECTION(obj)->commands, errp);
}

static void introspection_set_commands(Object *obj, Visitor *v,
                                       const char *name, void *opaque,
                                       Error **errp)
{
    Introspection *s = INTROSPECTION(obj);

    introspection_set_list(obj, v, name, &s->commands, &s->has_commands,
                           introspection_command_id, errp);
}

static void introspection_get_events(Object *obj, Visitor *v,
                                     const char *name, void *opaque,
                                     Error **errp)
{
    visit_type_strList(v, name, &INTROSPECTION(obj)->events, errp);
}

static void introspection_set_events(Object *obj, Visitor *v,
                                     const char *name, void *opaque,
                                     Error **errp)
{
    Introspection *s = INTROSPECTION(obj);

    introspection_set_list(obj, v, name, &s->events, &s->has_events,
                           introspection_event_id, errp);
}

static void introspection_instance_init(Object *obj)
{
    Introspection *s = INTROSPECTION(obj);

    s->auth = INTROSPECTION_AUTH_ANY;
    s->handshake_timeout = 10;
    s->unhook_timeout = 60;
    s->unhook_on_shutdown = true;
}

static void introspection_class_init(ObjectClass *klass, void *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(klass);

    ucc->complete = introspection_complete;
    ucc->can_be_deleted = introspection_can_be_deleted;

    object_class_property_add_str(klass, "chardev", introspection_get_chardev,
                                  introspection_set_chardev);
    object_class_property_set_description(klass, "chardev",
        "Socket that connects to the tool, with reconnect-ms");
    object_class_property_add_str(klass, "key", introspection_get_key_id,
                                  introspection_set_key_id);
    object_class_property_set_description(klass, "key",
        "Secret object with the key that the tool must have");
    object_class_property_add_enum(klass, "auth", "IntrospectionAuth",
                                   &IntrospectionAuth_lookup,
                                   introspection_get_auth,
                                   introspection_set_auth);
    object_class_property_set_description(klass, "auth",
        "How the tool shows that it has the key: sha1, hmac-sha256, any");
    object_class_property_add(klass, "handshake-timeout", "uint32",
                              introspection_get_number,
                              introspection_set_number, NULL,
                              (void *)&handshake_timeout);
    object_class_property_set_description(klass, "handshake-timeout",
        "Seconds that the tool may take to answer");
    object_class_property_add(klass, "unhook-timeout", "uint32",
                              introspection_get_number,
                              introspection_set_number, NULL,
                              (void *)&unhook_timeout);
    object_class_property_set_description(klass, "unhook-timeout",
        "Seconds that the tool may take to undo what it does, 0: do not ask");
    object_class_property_add(klass, "reply-deadline", "uint32",
                              introspection_get_number,
                              introspection_set_number, NULL,
                              (void *)&reply_deadline);
    object_class_property_set_description(klass, "reply-deadline",
        "Milliseconds that a vCPU waits for a reply of the tool, 0: any time");
    object_class_property_add_bool(klass, "unhook-on-shutdown",
                                   introspection_get_unhook_on_shutdown,
                                   introspection_set_unhook_on_shutdown);
    object_class_property_set_description(klass, "unhook-on-shutdown",
        "Whether system_powerdown waits for the tool to undo what it does");
    object_class_property_add(klass, "command", "strList",
                              introspection_get_commands,
                              introspection_set_commands, NULL, NULL);
    object_class_property_set_description(klass, "command",
        "Commands that the tool may use, by name or number (default: all)");
    object_class_property_add(klass, "event", "strList",
                              introspection_get_events,
                              introspection_set_events, NULL, NULL);
    object_class_property_set_description(klass, "event",
        "Events that the tool may get, by name or number (default: all)");
}

static const TypeInfo introspection_info = {
    .name = TYPE_INTROSPECTION,
    .parent = TYPE_OBJECT,
    .class_init = introspection_class_init,
    .instance_size = sizeof(Introspection),
    .instance_init = introspection_instance_init,
    .instance_finalize = introspection_finalize,
    .interfaces = (InterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    }
};

static void introspection_register_types(void)
{
    type_register_static(&introspection_info);
}

type_init(introspection_register_types);
