#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A guest whose kernel a tool protects, while its owner does whatever comes to
# his mind: random actions, one after the other, of which none may take longer
# than the timeouts that were set allow. Needs a KVM that has introspection.
#
#   survive.py QEMU KVMI KERNEL INITRD [ACTIONS [SEED]]
#
# KVMI is the kvmi command. KERNEL and INITRD are those of live.py, and the
# guest has the module /lib/rootkit.ko.

import collections
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import live
import test
from test import wait_for

KVMI = None
ACTIONS = 200
SEED = 1
UNHOOK_TIMEOUT = 3
# What an action itself may take, on a machine that is emulated.
SLACK = 60


class Protector:
    """kvmi serve, and kvmi protect as often as the guest is there."""

    def __init__(self, case):
        self.case = case
        self.active = False     # the guest's kernel is protected
        self.protected = 0      # how often that has begun
        self.pages = 0
        self.attempts = []
        self.commands = []
        self.ending = False
        self.server = None
        self.start()
        self.thread = threading.Thread(target=self.protect, daemon=True)

    def start(self):
        # The one that was killed cannot have removed it.
        with open(self.case.path('serve.err'), 'ab') as err:
            self.server = subprocess.Popen(
                [KVMI, 'serve', self.case.path('tool')], stderr=err,
                stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def alive(self):
        return self.server is not None

    # Again and again: it fails as long as no kernel runs in the guest.
    def protect(self):
        while not self.ending:
            command = subprocess.Popen(
                [KVMI, 'protect', test.UUID], stderr=subprocess.STDOUT,
                stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
            self.commands.append(command)
            for line in command.stdout:
                # kvmi: N pages protected, ...
                if 'pages protected' in line:
                    self.pages = int(line.split()[1])
                    self.protected += 1
                    self.active = True
                if ' pf ' in ' ' + line and 'text' in line:
                    self.attempts.append(line)
            self.active = False
            command.wait()
            self.commands.remove(command)
            time.sleep(0.3)

    def signal(self, number, server=True):
        for command in list(self.commands):
            command.send_signal(number)
        if server:
            self.server.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.server.wait()
        self.server = None

    def end(self):
        self.ending = True
        if self.server:
            self.server.send_signal(signal.SIGCONT)
            self.kill()
        if self.thread.is_alive():
            self.thread.join(test.LIMIT)


class Survive(live.Live):
    def setUp(self):
        super().setUp()
        self.tool.end()
        os.unlink(self.path('tool'))
        self.generation = 0
        self.uuid, self.memory = test.UUID, '96'
        self.added = self.running_now = True
        self.saved = None
        self.disk_active = True
        self.hung = False
        self.while_protected = 0
        self.random = random.Random(SEED)
        self.took = collections.defaultdict(list)
        self.disk_options = self.disk()
        self.protector = Protector(self)
        self.addCleanup(self.protector.end)

    def name(self):
        return 'qemu%d' % self.generation

    def printed(self):
        return os.path.getsize(self.path(self.name() + '.console'))

    def command(self, *args):
        command = [{test.UUID: self.uuid, '96': self.memory}.get(arg, arg)
                   for arg in super().command(*args)]
        for what in ('console', 'shell'):
            command = [arg.replace(self.path(what),
                                   self.path('%s.%s' % (self.name(), what)))
                       for arg in command]
        return command

    def begin(self, *args):
        options = [*self.chardev(), *self.disk_options]
        if self.added:
            options += ['-object', 'introspection,id=kvmi,chardev=tool,'
                        'unhook-timeout=%d,handshake-timeout=%d' %
                        (UNHOOK_TIMEOUT, UNHOOK_TIMEOUT)]
        self.process = self.start(*options, *args, name=self.name())
        self.qmp = self.monitor(self.name())

    def hmp_command(self, line):
        return self.qmp.do('human-monitor-command', command_line=line)

    # Two guests that come to the same socket are told apart.
    def test_two_guests(self):
        guests = [(test.UUID, 96),
                  ('ffeeddcc-bbaa-9988-7766-554433221100', 128)]
        for self.uuid, memory in guests:
            self.memory = str(memory)
            self.begin()
            self.running()
            self.generation += 1
            # One disk each.
            self.disk_options = []
        for (uuid, memory), process in zip(guests, self.processes):
            info = wait_for(lambda u=uuid: self.kvmi_info(u), 'info of ' + uuid)
            self.assertEqual(info['pid'], process.pid)
            self.assertEqual(int(info['memory_end'], 16), memory << 20)

    def test_vsock(self):
        with open(self.path('vsock.err'), 'wb') as err:
            server = subprocess.Popen([KVMI, 'serve', 'vsock:4711'],
                                      stdout=subprocess.DEVNULL, stderr=err)
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        self.added = False
        self.begin()
        # The firmware has QEMU take memory away for a moment.
        self.running()
        self.qmp.do('chardev-add', id='vsock', backend={
            'type': 'socket', 'data': {
                'server': False, 'reconnect-ms': 500, 'addr': {
                    'type': 'vsock', 'data': {'cid': '1', 'port': '4711'}}}})
        self.qmp.do('object-add', qom_type='introspection', id='kvmi',
                    chardev='vsock')
        # Who is at the other end of a vsock is not known, but what is in there.
        info = wait_for(lambda: self.kvmi_info(self.uuid), 'info')
        self.assertEqual(int(info['memory_end'], 16), 96 << 20)

    def kvmi_info(self, uuid):
        done = subprocess.run([KVMI, 'info', '--json', uuid], check=False,
                              stdout=subprocess.PIPE, text=True)
        return done.returncode == 0 and json.loads(done.stdout)

    # ---------------------------------------------------------------- actions

    def do_stop(self):
        self.qmp.do('stop')
        self.running_now = False

    def do_cont(self):
        self.qmp.do('cont')
        self.running_now = self.disk_active = True

    def do_reset(self):
        self.qmp.do('system_reset')

    # A guest that has come paused by migration has no disk before it runs.
    def can_savevm(self):
        return self.disk_active

    def do_savevm(self):
        self.assertEqual(self.hmp_command('savevm one'), '')
        self.saved = self.added

    # The object's state is part of what is saved.
    def can_loadvm(self):
        return self.disk_active and self.saved == self.added

    def do_loadvm(self):
        self.assertEqual(self.hmp_command('loadvm one'), '')
        self.running_now = self.qmp.do('query-status')['running']

    def do_migrate(self):
        source, qmp, uri = self.process, self.qmp, self.path('migration')
        if os.path.exists(uri):
            os.unlink(uri)
        self.generation += 1
        self.begin('-incoming', 'unix:' + uri)
        qmp.do('migrate', uri='unix:' + uri)
        end = time.monotonic() + test.LIMIT
        while True:
            info = qmp.do('query-migrate')
            if info['status'] == 'completed':
                break
            self.assertNotEqual(info['status'], 'failed', info)
            self.assertLess(time.monotonic(), end, info)
            time.sleep(0.05)
        self.disk_active = self.running_now
        qmp.do('quit')
        self.assertEqual(source.wait(test.LIMIT), 0)
        qmp.sock.close()
        wait_for(lambda: self.status() != 'inmigrate', 'the guest is there')

    def can_tool_killed(self):
        return self.protector.alive()

    def do_tool_killed(self):
        self.protector.kill()
        self.hung = False

    def can_tool_restarted(self):
        return not self.protector.alive()

    def do_tool_restarted(self):
        self.protector.start()

    # A tool that does not answer, from here on or no longer.
    def can_tool_hangs(self):
        return self.protector.alive()

    def do_tool_hangs(self):
        self.hung = not self.hung
        self.protector.signal(signal.SIGSTOP if self.hung else signal.SIGCONT)

    # Only what protects: the server puts things right.
    def can_command_killed(self):
        return self.protector.alive() and not self.hung

    def do_command_killed(self):
        self.protector.signal(signal.SIGKILL, server=False)

    def can_object_del(self):
        return self.added

    def do_object_del(self):
        self.qmp.do('object-del', id='kvmi')
        self.added = False

    def can_object_add(self):
        return not self.added

    def do_object_add(self):
        self.qmp.do('object-add', qom_type='introspection', id='kvmi',
                    chardev='tool', unhook_timeout=UNHOOK_TIMEOUT,
                    handshake_timeout=UNHOOK_TIMEOUT)
        self.added = True

    # ----------------------------------------------------------------- checks

    # What is to be waited for is one timeout a connection: an old one that has
    # to go, and a new one that came meanwhile.
    def act(self, name):
        self.while_protected += self.protector.active
        begin = time.monotonic()
        getattr(self, 'do_' + name)()
        took = time.monotonic() - begin
        self.took[name].append(took)
        self.assertLess(took, 2 * UNHOOK_TIMEOUT + SLACK, name)
        return took

    # Often what it takes for the guest to be protected, or that would be rare.
    def choose(self):
        mends = [name for name, missing in (
            ('cont', not self.running_now), ('object_add', not self.added),
            ('tool_restarted', not self.protector.alive()),
            ('tool_hangs', self.hung)) if missing]
        if mends and self.random.random() < 0.6:
            return self.random.choice(mends)
        names = [name[3:] for name in dir(self) if name.startswith('do_')]
        names = [name for name in names
                 if getattr(self, 'can_' + name, lambda: True)()]
        return self.random.choice(sorted(names))

    def check(self):
        self.assertEqual(self.qmp.do('query-status')['running'],
                         self.running_now)
        self.assertIsNone(self.process.poll(), self.said(self.name()))
        # A vCPU may be waiting for a tool that hangs: that is what it may do.
        if self.running_now and not self.hung and self.random.random() < 0.4:
            self.running()
        if self.running_now and not self.hung and self.added and \
           self.protector.alive() and self.random.random() < 0.6:
            self.protected_now()

    def protected_now(self):
        wait_for(lambda: self.protector.active,
                 'protection; kvmi serve says: ' + self.served())

    def served(self):
        with open(self.path('serve.err'), encoding='utf-8') as f:
            return f.read()[-1000:]

    # In the end it is shown that all of this works.
    def rootkit(self):
        if not self.protector.alive():
            self.do_tool_restarted()
        if self.hung:
            self.do_tool_hangs()
        if not self.added:
            self.do_object_add()
        self.do_cont()
        self.do_reset()
        shell = socket.socket(socket.AF_UNIX)
        shell.settimeout(test.LIMIT)
        shell.connect(self.path(self.name() + '.shell'))
        self.addCleanup(shell.close)
        lines = shell.makefile('rw')

        def ask(command):
            lines.write(command + '\n')
            lines.flush()
            said = ''
            for line in lines:
                if line.startswith('=>'):
                    break
                said += line
            return said

        for line in lines:
            if 'ready' in line:
                break
        address = ask("grep -m 1 ' __x64_sys_getpid$' /proc/kallsyms").split()
        ask('insmod /lib/rootkit.ko address=0x' + address[0])
        self.protected_now()
        ask('echo wp >/proc/rootkit')
        wait_for(lambda: self.protector.attempts, 'the attempt is seen')
        self.assertIn('getpid is as it was', ask('cat /proc/rootkit'))

    def test_survive(self):
        begin = time.monotonic()
        self.protector.thread.start()
        self.begin()
        self.running()
        self.protected_now()
        for n in range(ACTIONS):
            name = self.choose()
            before = ', protected' if self.protector.active else ''
            took = self.act(name)
            print('%3d %-15s %6.2f s%s%s%s' %
                  (n + 1, name, took, before, ', hangs' if self.hung else '',
                   '' if self.running_now else ', paused'), flush=True)
            self.check()
        self.rootkit()
        print('%d actions in %d s, seed %d, %d of them on a guest whose kernel '
              '(%d pages) was protected, which began %d times; in the end a '
              'rootkit was blocked' %
              (ACTIONS, time.monotonic() - begin, SEED, self.while_protected,
               self.protector.pages, self.protector.protected))
        for name in sorted(self.took):
            print('%-15s %3d times, at most %.2f s' %
                  (name, len(self.took[name]), max(self.took[name])))


def main():
    global KVMI, ACTIONS, SEED
    if not 5 <= len(sys.argv) <= 7:
        sys.exit('usage: survive.py QEMU KVMI KERNEL INITRD [ACTIONS [SEED]]')
    test.QEMU, KVMI, live.KERNEL, live.INITRD = \
        map(os.path.realpath, sys.argv[1:5])
    if len(sys.argv) > 5:
        ACTIONS = int(sys.argv[5])
    if len(sys.argv) > 6:
        SEED = int(sys.argv[6])
    test.run('Survive.test_two_guests', 'Survive.test_vsock',
             'Survive.test_survive')


if __name__ == '__main__':
    main()
