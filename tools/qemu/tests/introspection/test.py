#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tests of what QEMU does with KVM introspection, with a tool and a KVM that
# are none (see kvm-shim.c). They need no /dev/kvm.
#
#   test.py QEMU SHIM [TEST...]
#
# QEMU is the path of qemu-system-x86_64, next to its qemu-img; SHIM is
# kvm-shim.c, compiled as a shared object.

import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import tap

QEMU = SHIM = None
LIMIT = 60                      # seconds for anything that is to happen
UUID = '00112233-4455-6677-8899-aabbccddeeff'
KEY = b'\x00a key\xff\n'


def wait_for(condition, what):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError('has not happened: ' + what)


class QMP:
    def __init__(self, path, oob=False):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT)
        wait_for(lambda: self.connected(path), 'QMP')
        self.buf = b''
        self.events = []
        self.replies = []
        self.read()
        caps = {'enable': ['oob']} if oob else {}
        self.do('qmp_capabilities', **caps)

    def connected(self, path):
        return not self.sock.connect_ex(path)

    def read(self):
        while b'\n' not in self.buf:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError('QEMU has ended')
            self.buf += data
        line, self.buf = self.buf.split(b'\n', 1)
        return json.loads(line)

    def send(self, command, how='execute', ident=None, **args):
        message = {how: command}
        if args:
            message['arguments'] = {k.replace('_', '-'): v
                                    for k, v in args.items()}
        if ident:
            message['id'] = ident
        self.sock.sendall(json.dumps(message).encode() + b'\n')

    def next_reply(self):
        while not self.replies:
            message = self.read()
            if 'event' in message:
                self.events.append(message)
            # Who connects while QEMU sets up the monitor may be greeted twice.
            elif 'QMP' not in message:
                self.replies.append(message)
        return self.replies.pop(0)

    def reply(self):
        message = self.next_reply()
        if 'error' in message:
            raise RuntimeError(message['error']['desc'])
        return message['return']

    def do(self, command, **args):
        self.send(command, **args)
        return self.reply()

    # What comes within @seconds, or nothing.
    def quiet(self, seconds):
        self.sock.settimeout(seconds)
        try:
            self.next_reply()
        except socket.timeout:
            return True
        finally:
            self.sock.settimeout(LIMIT)
        return False

    def event(self, name, **data):
        while True:
            for i, event in enumerate(self.events):
                have = event.get('data', {})
                if event['event'] == name and \
                   all(have.get(k) == v for k, v in data.items()):
                    del self.events[:i + 1]
                    return event
            message = self.read()
            if 'event' in message:
                self.events.append(message)
            else:
                self.replies.append(message)


class Tool:
    """The side of the tool: listens, and says what it is told to."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.listener.settimeout(LIMIT)
        self.conn = None

    def accept(self):
        if self.conn:
            self.conn.close()
        self.conn, _ = self.listener.accept()
        self.conn.settimeout(LIMIT)
        self.hello = self.read(4)
        self.hello += self.read(struct.unpack('=I', self.hello)[0] - 4)
        return self.hello

    def read(self, size):
        data = b''
        while len(data) < size:
            more = self.conn.recv(size - len(data))
            if not more:
                raise EOFError('QEMU has closed the connection')
            data += more
        return data

    def answer(self, extra=b'', size=24):
        self.conn.sendall(struct.pack('=I', size).ljust(size, b'\0') + extra)

    def hook(self):
        hello = self.accept()
        self.answer()
        return hello

    # That nobody connects for so long.
    def alone(self, seconds):
        self.listener.settimeout(seconds)
        try:
            self.listener.accept()[0].close()
        except socket.timeout:
            return True
        finally:
            self.listener.settimeout(LIMIT)
        return False

    def asked_to_go(self):
        return self.read(16)[:4] == struct.pack('=HH', 0, 8)

    def closed(self):
        try:
            return self.conn.recv(1) == b''
        except ConnectionResetError:
            return True

    def close(self):
        self.conn.close()

    def end(self):
        self.listener.close()
        if self.conn:
            self.conn.close()


def start_time(hello):
    return struct.unpack_from('=q', hello, 24)[0]


class Base(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='kvmi-')
        self.addCleanup(shutil.rmtree, self.dir)
        self.processes = []
        self.addCleanup(self.end)
        self.tool = Tool(self.path('tool'))
        self.addCleanup(lambda: self.tool.end())
        self.fail_with('')

    def path(self, name):
        return os.path.join(self.dir, name)

    def fail_with(self, errors):
        with open(self.path('fail'), 'w', encoding='ascii') as f:
            f.write(errors)

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def command(self, *args):
        return [QEMU, '-nodefaults', '-display', 'none', '-machine', 'none',
                '-accel', 'kvm', '-m', '64', '-uuid', UUID, '-name', 'guest',
                *args]

    def env(self, name):
        return dict(os.environ, LD_PRELOAD=SHIM,
                    KVM_SHIM_LOG=self.path(name + '.log'),
                    KVM_SHIM_FAIL=self.path('fail'))

    def chardev(self):
        return ['-chardev', 'socket,id=tool,path=%s,reconnect-ms=50' %
                self.path('tool')]

    def secret(self):
        with open(self.path('key'), 'wb') as f:
            f.write(KEY)
        return ['-object', 'secret,id=key,file=' + self.path('key')]

    def qemu(self, *args, options='', name='qemu', oob=False):
        """Starts QEMU with the object, and args; sets self.qmp."""
        self.process = self.start(
            *self.chardev(), '-object',
            'introspection,id=kvmi,chardev=tool' + options, *args, name=name)
        self.qmp = self.monitor(name, oob)
        return self.qmp

    def start(self, *args, name='qemu'):
        with open(self.path(name + '.err'), 'wb') as err:
            process = subprocess.Popen(
                self.command('-qmp', 'unix:%s,server=on,wait=off' %
                             self.path(name + '.qmp'),
                             '-qmp', 'unix:%s,server=on,wait=off' %
                             self.path(name + '.qmp2'),
                             '-monitor', 'unix:%s,server=on,wait=off' %
                             self.path(name + '.hmp'), *args),
                env=self.env(name), stderr=err, stdin=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def monitor(self, name='qemu', oob=False, which='qmp'):
        try:
            qmp = QMP(self.path('%s.%s' % (name, which)), oob)
        except (AssertionError, OSError, EOFError):
            print(self.said(name))
            raise
        self.addCleanup(qmp.sock.close)
        return qmp

    def said(self, name='qemu'):
        with open(self.path(name + '.err'), encoding='utf-8') as f:
            return f.read()

    def log(self, name='qemu'):
        try:
            with open(self.path(name + '.log'), encoding='ascii') as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    # What KVM was asked to do, in this order, as the last things.
    def expect_log(self, *lines, name='qemu'):
        wait_for(lambda: self.log(name)[-len(lines):] == list(lines),
                 '%s, but %s' % (list(lines), self.log(name)))

    def info(self):
        return self.qmp.do('query-introspection')[0]

    def state(self, state):
        wait_for(lambda: self.info()['state'] == state,
                 state + ', but ' + self.info()['state'])

    def hooked(self):
        hello = self.tool.hook()
        self.state('hooked')
        return hello

    def ended(self, code=0):
        self.assertEqual(self.process.wait(LIMIT), code, self.said())

    def disk(self):
        subprocess.run([os.path.join(os.path.dirname(QEMU), 'qemu-img'),
                        'create', '-q', '-f', 'qcow2', self.path('disk'),
                        '16M'], check=True)
        return ['-blockdev', 'qcow2,node-name=disk,file.driver=file,'
                'file.filename=' + self.path('disk')]

    def hmp(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(LIMIT)
        sock.connect(self.path('qemu.hmp'))
        self.addCleanup(sock.close)
        self.hmp_read(sock)
        return sock

    # Up to the next prompt.
    def hmp_read(self, sock):
        data = b''
        while not data.endswith(b'(qemu) '):
            more = sock.recv(4096)
            if not more:
                raise EOFError(data)
            data += more
        return data.decode()


class Options(Base):
    def refused(self, options, message, *args, chardev=None):
        chardev = self.chardev() if chardev is None else chardev
        process = subprocess.run(
            self.command(*chardev, *args, '-object',
                         'introspection,id=kvmi' + options),
            env=self.env('refused'), stderr=subprocess.PIPE, timeout=LIMIT,
            stdin=subprocess.DEVNULL, check=False)
        self.assertEqual(process.returncode, 1)
        self.assertIn(message, process.stderr.decode())

    def test_help(self):
        out = subprocess.run(
            self.command('-object', 'introspection,help'), check=True,
            env=self.env('help'), stdout=subprocess.PIPE).stdout.decode()
        for name in ('chardev', 'key', 'auth', 'handshake-timeout', 'command',
                     'unhook-timeout', 'unhook-on-shutdown', 'event',
                     'reply-deadline'):
            self.assertIn(name + '=', out)

    def test_chardev(self):
        self.refused('', "'chardev' is missing")
        self.refused(',chardev=none', "there is no chardev 'none'")
        self.refused(',chardev=tool', 'is not a socket',
                     chardev=['-chardev', 'null,id=tool'])
        path = self.path('tool')
        self.refused(',chardev=tool', 'needs reconnect-ms',
                     chardev=['-chardev', 'socket,id=tool,path=' + path])
        self.refused(',chardev=tool', 'must connect, not listen',
                     chardev=['-chardev', 'socket,id=tool,server=on,wait=off,'
                              'path=' + self.path('other')])
        self.refused(',chardev=tool', 'is already in use', '-mon', 'tool')

    def test_kvm(self):
        self.fail_with('CAP=1')
        self.refused(',chardev=tool', "this host's KVM offers no introspection")
        process = subprocess.run(
            [QEMU, '-nodefaults', '-display', 'none', '-machine', 'none',
             '-accel', 'qtest', *self.chardev(),
             '-object', 'introspection,id=kvmi,chardev=tool'],
            stderr=subprocess.PIPE, check=False, timeout=LIMIT)
        self.assertEqual(process.returncode, 1)
        self.assertIn(b'introspection needs KVM', process.stderr)

    def test_values(self):
        for option, message in (
                ('handshake-timeout=0', 'from 1 to 86400'),
                ('handshake-timeout=86401', 'from 1 to 86400'),
                ('handshake-timeout=4294968', 'from 1 to 86400'),
                ('unhook-timeout=4294967296', 'unhook-timeout'),
                ('unhook-timeout=-1', 'unhook-timeout'),
                ('command=frobnicate', "no introspection command "
                                         "'frobnicate'"),
                ('command=pf', "no introspection command 'pf'"),
                ('event=vm-get-info', "no introspection event"),
                ('event=4294967295', "no introspection event"),
                ('command=30', "KVM does not know the introspection command"),
                ('event=20', "KVM does not know the introspection event"),
                ('command.0=8', 'command.0'),
                ('key=none', "No secret with id 'none'"),
                ('auth=sha1', "'auth' needs a 'key'"),
                ('auth=md5', "md5"),
                ('frobnicate=1', "frobnicate")):
            with self.subTest(option):
                self.refused(',chardev=tool,' + option, message)
        self.refused(',chardev=tool,key=key', "secret 'key' is empty",
                     '-object', 'secret,id=key,data=')

    def test_one_only(self):
        self.refused(',chardev=tool', "there can be only one", '-object',
                     'introspection,id=first,chardev=tool')
        # It may have connected before that.
        self.tool.end()
        os.unlink(self.tool.path)
        self.tool = Tool(self.tool.path)
        self.qemu()
        with self.assertRaisesRegex(RuntimeError, "and there is 'kvmi'"):
            self.qmp.do('object-add', qom_type='introspection', id='second',
                        chardev='tool')
        # The first is none the worse for it.
        self.hooked()

    def test_set_later(self):
        self.qemu()
        with self.assertRaisesRegex(RuntimeError, 'cannot be changed'):
            self.qmp.do('qom-set', path='/objects/kvmi', property='key',
                        value='x')
        self.assertEqual(self.qmp.do('qom-get', path='/objects/kvmi',
                                     property='chardev'), 'tool')
        self.assertEqual(self.qmp.do('qom-get', path='/objects/kvmi',
                                     property='unhook-timeout'), 60)

    def test_busy_chardev(self):
        self.qemu()
        self.hooked()
        with self.assertRaisesRegex(RuntimeError, 'busy'):
            self.qmp.do('chardev-remove', id='tool')


class Handshake(Base):
    def test_hello(self):
        self.qemu()
        before = int(time.time())
        hello = self.tool.accept()
        self.assertEqual(len(hello), 104)
        self.assertEqual(hello[4:20].hex(), UUID.replace('-', ''))
        self.assertEqual(hello[20:24], bytes(4))
        self.assertLess(abs(start_time(hello) - before), LIMIT)
        self.assertEqual(hello[32:96], b'guest'.ljust(64, b'\0'))
        self.assertEqual(struct.unpack_from('=Q', hello, 96)[0], 64 << 20)
        self.state('handshake')
        self.tool.answer()
        self.expect_log('HOOK', 'EVENT 1 -1', 'COMMAND 1 -1')
        self.qmp.event('INTROSPECTION_STATE', state='hooked')
        info = self.info()
        self.assertEqual(info['start-time'], start_time(hello))
        self.assertEqual(info['hooks'], 1)
        self.assertNotIn('reason', info)
        self.assertNotIn('auth', info)

    def test_allow_lists(self):
        self.qemu(options=',command=vm-get-info,command=12,event=unhook,'
                  'event=0x11,reply-deadline=1500')
        self.hooked()
        self.expect_log('HOOK', 'DEADLINE 1500 0', 'EVENT 1 0', 'EVENT 1 17',
                        'COMMAND 1 8', 'COMMAND 1 12')

    def test_empty_list(self):
        self.process = self.start(*self.chardev(), '-object', json.dumps(
            {'qom-type': 'introspection', 'id': 'kvmi', 'chardev': 'tool',
             'command': []}))
        self.monitor()
        self.tool.hook()
        self.expect_log('HOOK', 'EVENT 1 -1')

    def test_split(self):
        self.qemu()
        reply = struct.pack('=I', 30).ljust(30, b'\0')
        for cut in range(1, 30):
            self.tool.accept()
            self.tool.conn.sendall(reply[:cut])
            time.sleep(0.01)
            self.tool.conn.sendall(reply[cut:])
            self.expect_log('HOOK', 'EVENT 1 -1', 'COMMAND 1 -1')
            self.tool.close()
            self.expect_log('UNHOOK')

    def test_bytes(self):
        self.qemu()
        self.tool.accept()
        for byte in struct.pack('=I', 24).ljust(24, b'\0'):
            self.assertEqual(self.log(), [])
            self.tool.conn.sendall(bytes([byte]))
        self.state('hooked')

    # The first command is sent right behind the answer: KVM is to get it.
    def test_nothing_eaten(self):
        self.qemu()
        command = bytes(range(1, 33))
        for size in (24, 25, 56, 5000, 65536):
            self.tool.accept()
            self.tool.answer(size=size, extra=command)
            self.expect_log('HOOK ' + command.hex(), 'EVENT 1 -1',
                            'COMMAND 1 -1')
            # Nor anything that comes later.
            self.tool.conn.sendall(b'later')
            time.sleep(0.05)
            self.assertEqual(self.info()['state'], 'hooked')
            self.tool.close()
            self.expect_log('UNHOOK')

    def test_wrong_size(self):
        self.qemu()
        for size in (0, 23, 65537, 0xffffffff):
            self.tool.accept()
            self.tool.conn.sendall(struct.pack('=I', size))
            self.assertTrue(self.tool.closed())
        self.assertIn('impossible size', self.info()['reason'])
        self.assertEqual(self.log(), [])
        self.hooked()
        self.assertNotIn('reason', self.info())
        # It was said once.
        self.assertEqual(self.said().count('impossible size'), 1)

    def test_silent(self):
        self.qemu(options=',handshake-timeout=1')
        self.tool.accept()
        self.tool.conn.sendall(struct.pack('=I', 24))
        began = time.monotonic()
        self.assertTrue(self.tool.closed())
        self.assertLess(time.monotonic() - began, LIMIT / 2)
        self.assertIn('does not answer', self.info()['reason'])
        self.hooked()

    def test_refused_by_tool(self):
        self.qemu()
        for _ in range(3):
            self.tool.accept()
            self.tool.close()
        self.hooked()

    def test_tool_later(self):
        self.tool.listener.close()
        os.unlink(self.path('tool'))
        self.qemu()
        time.sleep(0.3)
        self.assertEqual(self.info()['state'], 'connecting')
        self.tool = Tool(self.path('tool'))
        self.hooked()

    def test_sha1(self):
        self.qemu(*self.secret(), options=',key=key,auth=sha1')
        self.assertEqual(len(self.tool.accept()), 104)
        self.tool.answer()
        self.assertTrue(self.tool.closed())
        self.assertIn('does not have the key', self.info()['reason'])
        self.tool.accept()
        self.tool.conn.sendall(struct.pack('=I', 24) +
                               hashlib.sha1(KEY).digest())
        self.state('hooked')
        self.assertEqual(self.info()['auth'], 'sha1')

    def hmac_reply(self, hello, key=KEY):
        return struct.pack('=I20x', 56) + \
            hmac.new(key, hello, hashlib.sha256).digest()

    def test_hmac(self):
        self.qemu(*self.secret(), options=',key=key,auth=hmac-sha256')
        first = self.tool.accept()
        self.assertEqual(len(first), 144)
        self.assertEqual(first[104:112], struct.pack('=II', 2, 0))
        self.tool.conn.sendall(struct.pack('=I', 24) +
                               hashlib.sha1(KEY).digest())
        self.assertTrue(self.tool.closed())
        self.assertIn('SHA-1 is not accepted', self.info()['reason'])
        second = self.tool.accept()
        self.assertNotEqual(first[112:], second[112:])
        self.tool.conn.sendall(self.hmac_reply(first))
        self.assertTrue(self.tool.closed())
        hello = self.tool.accept()
        self.tool.conn.sendall(self.hmac_reply(hello, b'other'))
        self.assertTrue(self.tool.closed())
        self.assertEqual(self.log(), [])
        hello = self.tool.accept()
        self.tool.conn.sendall(self.hmac_reply(hello))
        self.state('hooked')

    def test_any(self):
        self.qemu(*self.secret(), options=',key=key')
        hello = self.tool.accept()
        self.assertEqual(hello[104:112], struct.pack('=II', 3, 0))
        self.tool.conn.sendall(self.hmac_reply(hello))
        self.state('hooked')
        self.tool.close()
        # An old tool skips what it does not know.
        self.tool.accept()
        self.tool.conn.sendall(struct.pack('=I', 24) +
                               hashlib.sha1(KEY).digest())
        self.state('hooked')
        self.tool.close()
        self.tool.accept()
        self.tool.answer(size=56)
        self.assertTrue(self.tool.closed())

    def test_kvm_refuses(self):
        self.qemu()
        for number, reason in ((1, 'switched off'), (17, 'something else'),
                               (95, 'guest of this type'),
                               (12, 'Cannot allocate memory')):
            self.fail_with('HOOK=%d' % number)
            self.tool.hook()
            self.assertTrue(self.tool.closed())
            self.assertIn(reason, self.info()['reason'])
        # What is another's must stay his.
        self.assertNotIn('UNHOOK', ' '.join(self.log()))
        for what in ('COMMAND', 'EVENT'):
            self.fail_with(what + '=22')
            self.tool.hook()
            self.assertTrue(self.tool.closed())
            self.expect_log('%s 1 -1 fails' % what, 'UNHOOK')
        self.fail_with('')
        self.hooked()

    def test_deadline_fails(self):
        self.fail_with('DEADLINE=25')
        self.qemu(options=',reply-deadline=1')
        self.tool.hook()
        self.assertTrue(self.tool.closed())
        self.expect_log('HOOK', 'UNHOOK')

    def test_lost(self):
        self.qemu()
        for _ in range(20):
            self.hooked()
            self.tool.close()
            self.expect_log('HOOK', 'EVENT 1 -1', 'COMMAND 1 -1', 'UNHOOK')
        self.assertIn('disconnected', self.info()['reason'])
        self.assertEqual(self.info()['hooks'], 20)

    def test_tcp(self):
        listener = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(listener.close)
        self.process = self.start(
            '-chardev', 'socket,id=tool,host=127.0.0.1,port=%d,'
            'reconnect-ms=50' % listener.getsockname()[1],
            '-object', 'introspection,id=kvmi,chardev=tool')
        self.qmp = self.monitor()
        self.tool.listener.close()
        self.tool.listener = listener
        listener.settimeout(LIMIT)
        self.hooked()
        self.tool.close()
        self.expect_log('UNHOOK')


class Pause(Base):
    def test_stop(self):
        self.qemu()
        self.hooked()
        self.qmp.send('stop')
        self.assertTrue(self.tool.asked_to_go())
        self.assertTrue(self.qmp.quiet(0.3))
        self.qmp.event('INTROSPECTION_STATE', state='unhooking')
        self.assertNotIn('STOP', [e['event'] for e in self.qmp.events])
        self.tool.close()
        self.assertEqual(self.qmp.reply(), {})
        self.expect_log('PREUNHOOK', 'UNHOOK')
        self.assertEqual(self.qmp.do('query-status')['status'], 'paused')
        self.assertEqual(self.info()['state'], 'suspended')
        self.assertTrue(self.tool.alone(0.5))
        self.qmp.do('cont')
        self.hooked()
        self.assertEqual(self.qmp.do('query-status')['status'], 'running')

    def test_stop_silent_tool(self):
        self.qemu(options=',unhook-timeout=1')
        self.hooked()
        self.qmp.do('stop')
        self.expect_log('PREUNHOOK', 'UNHOOK')
        self.assertIn('does not disconnect', self.info()['reason'])
        self.assertTrue(self.tool.asked_to_go())
        self.assertTrue(self.tool.closed())

    def test_stop_tool_cannot_be_asked(self):
        self.fail_with('PREUNHOOK=2')
        self.qemu()
        self.hooked()
        self.qmp.do('stop')
        self.expect_log('PREUNHOOK fails', 'UNHOOK')

    def test_stop_tool_is_not_asked(self):
        self.qemu(options=',unhook-timeout=0')
        self.hooked()
        self.qmp.do('stop')
        self.expect_log('COMMAND 1 -1', 'UNHOOK')

    def test_stop_handshake(self):
        self.qemu()
        self.tool.accept()
        self.qmp.do('stop')
        self.assertTrue(self.tool.closed())
        self.assertEqual(self.log(), [])
        self.assertTrue(self.tool.alone(0.3))

    def test_stop_cont_pipelined(self):
        self.qemu()
        for _ in range(5):
            self.hooked()
            self.qmp.send('stop', ident='1')
            self.qmp.send('cont', ident='2')
            self.qmp.send('query-status', ident='3')
            self.assertTrue(self.tool.asked_to_go())
            self.tool.close()
            replies = [self.qmp.next_reply() for _ in range(3)]
            self.assertEqual([r['id'] for r in replies], ['1', '2', '3'])
            self.assertEqual(replies[2]['return']['status'], 'running')

    def test_two_monitors(self):
        self.qemu()
        self.hooked()
        other = self.monitor(which='qmp2')
        self.qmp.send('stop', ident='stop')
        self.assertTrue(self.tool.asked_to_go())
        other.send('query-name', ident='name')
        other.send('query-uuid', ident='uuid')
        self.tool.close()
        self.assertEqual(self.qmp.next_reply(), {'return': {}, 'id': 'stop'})
        self.assertEqual(other.next_reply()['id'], 'name')
        self.assertEqual(other.next_reply()['return']['UUID'], UUID)

    def test_yank(self):
        self.qemu(oob=True)
        self.hooked()
        self.qmp.send('stop', ident='stop')
        self.assertTrue(self.tool.asked_to_go())
        self.qmp.send('yank', how='exec-oob', ident='yank', instances=[
            {'type': 'chardev', 'id': 'tool'}])
        ids = {self.qmp.next_reply()['id'] for _ in range(2)}
        self.assertEqual(ids, {'stop', 'yank'})
        self.expect_log('PREUNHOOK', 'UNHOOK')

    def test_yank_hooked(self):
        self.qemu()
        self.hooked()
        self.qmp.do('yank', instances=[{'type': 'chardev', 'id': 'tool'}])
        self.expect_log('UNHOOK')
        self.hooked()

    def test_hmp(self):
        self.qemu()
        self.hooked()
        hmp = self.hmp()
        hmp.sendall(b'stop\n')
        self.assertTrue(self.tool.asked_to_go())
        # QMP has nothing to do with it.
        self.assertEqual(self.qmp.do('query-status')['status'], 'running')
        hmp.settimeout(0.3)
        with self.assertRaises(socket.timeout):
            self.hmp_read(hmp)
            self.hmp_read(hmp)
        hmp.settimeout(LIMIT)
        self.tool.close()
        self.hmp_read(hmp)
        hmp.sendall(b'info status\n')
        self.assertIn('paused', self.hmp_read(hmp))
        hmp.sendall(b'cont\n')
        self.hmp_read(hmp)
        self.hooked()

    def test_hmp_through_qmp(self):
        self.qemu()
        for command in ('stop', '  s  '):
            self.hooked()
            self.qmp.send('human-monitor-command', command_line=command)
            self.assertTrue(self.tool.asked_to_go())
            self.assertTrue(self.qmp.quiet(0.2))
            self.tool.close()
            self.qmp.reply()
            self.assertEqual(self.qmp.do('query-status')['status'], 'paused')
            self.qmp.do('cont')

    def test_start_paused(self):
        self.qemu('-S')
        self.hooked()
        self.assertEqual(self.qmp.do('query-status')['status'], 'prelaunch')
        self.qmp.do('cont')
        self.assertEqual(self.info()['state'], 'hooked')

    def test_add_when_paused(self):
        self.process = self.start(*self.chardev())
        self.qmp = self.monitor()
        # It has connected, with nobody to say hello.
        silent, _ = self.tool.listener.accept()
        self.qmp.do('stop')
        self.qmp.do('object-add', qom_type='introspection', id='kvmi',
                    chardev='tool')
        silent.settimeout(LIMIT)
        self.assertEqual(silent.recv(1), b'')
        silent.close()
        self.assertTrue(self.tool.alone(0.5))
        self.qmp.do('cont')
        self.hooked()

    # Another error in between must not leave anything behind.
    def test_wrong_commands(self):
        self.qemu()
        self.hooked()
        self.qmp.send('stop', ident='x', bad=1)
        self.assertTrue(self.tool.asked_to_go())
        self.tool.close()
        self.assertIn('error', self.qmp.next_reply())
        self.assertEqual(self.qmp.do('query-status')['status'], 'running')
        self.hooked()
        self.qmp.do('query-status')


class End(Base):
    def test_quit(self):
        self.qemu()
        self.hooked()
        self.qmp.do('quit')
        self.ended()
        self.assertTrue(self.tool.closed())
        self.expect_log('COMMAND 1 -1', 'UNHOOK')

    def test_sigterm(self):
        self.qemu()
        self.hooked()
        self.process.send_signal(signal.SIGTERM)
        self.ended()
        self.expect_log('COMMAND 1 -1', 'UNHOOK')

    def test_sigterm_while_waiting(self):
        self.qemu()
        self.hooked()
        hmp = self.hmp()
        self.qmp.send('stop')
        self.assertTrue(self.tool.asked_to_go())
        hmp.sendall(b'stop\n')
        time.sleep(0.1)
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        with self.assertRaisesRegex(RuntimeError, 'shutting down'):
            self.qmp.reply()
        self.ended()
        self.assertLess(time.monotonic() - began, LIMIT / 2)
        self.expect_log('PREUNHOOK', 'UNHOOK')

    def test_sigterm_in_handshake(self):
        self.qemu()
        self.tool.accept()
        self.process.send_signal(signal.SIGTERM)
        self.ended()
        self.assertEqual(self.log(), [])

    def test_no_shutdown(self):
        self.qemu('-no-shutdown', '-action', 'shutdown=pause')
        self.hooked()
        self.qmp.do('quit')
        self.ended()

    def test_reset(self):
        self.qemu()
        first = self.hooked()
        time.sleep(1.1)
        self.qmp.do('system_reset')
        self.assertTrue(self.tool.closed())
        self.qmp.event('RESET')
        second = self.hooked()
        self.assertGreater(start_time(second), start_time(first))
        self.assertEqual(self.log().count('UNHOOK'), 1)
        self.assertNotIn('PREUNHOOK', self.log())

    def test_reset_while_waiting(self):
        self.qemu()
        self.hooked()
        other = self.monitor(which='qmp2')
        hmp = self.hmp()
        hmp.sendall(b'stop\n')
        self.assertTrue(self.tool.asked_to_go())
        other.do('system_reset')
        self.hmp_read(hmp)
        self.expect_log('PREUNHOOK', 'UNHOOK')
        wait_for(lambda: self.qmp.do('query-status')['status'] == 'paused',
                 'paused')

    def test_powerdown(self):
        self.qemu()
        self.hooked()
        self.qmp.send('system_powerdown')
        self.assertTrue(self.tool.asked_to_go())
        self.assertTrue(self.qmp.quiet(0.3))
        self.assertNotIn('POWERDOWN', [e['event'] for e in self.qmp.events])
        self.tool.close()
        self.qmp.reply()
        self.qmp.event('POWERDOWN')
        # The guest need not obey.
        self.hooked()

    def test_powerdown_at_once(self):
        self.qemu(options=',unhook-on-shutdown=off')
        self.hooked()
        self.qmp.do('system_powerdown')
        self.qmp.event('POWERDOWN')
        self.assertEqual(self.info()['state'], 'hooked')

    def test_object_del(self):
        self.qemu()
        self.hooked()
        self.qmp.send('object-del', id='kvmi')
        self.assertTrue(self.tool.asked_to_go())
        self.tool.close()
        self.qmp.reply()
        self.assertEqual(self.qmp.do('query-introspection'), [])
        self.expect_log('PREUNHOOK', 'UNHOOK')

        # Nothing of it is left.
        for command in ('stop', 'system_reset', 'cont', 'system_powerdown'):
            self.qmp.do(command)
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        wait_for(lambda: self.qmp.do('query-migrate')['status'] ==
                 'completed', 'migration')
        self.qmp.do('cont')
        self.assertTrue(self.tool.alone(0.3))

        self.qmp.do('object-add', qom_type='introspection', id='kvmi',
                    chardev='tool')
        self.hooked()
        self.qmp.send('object-del', id='kvmi')
        self.assertTrue(self.tool.asked_to_go())
        self.tool.close()
        self.qmp.reply()
        self.qmp.do('chardev-remove', id='tool')
        self.qmp.do('quit')
        self.ended()

    def test_object_del_handshake(self):
        self.qemu()
        self.tool.accept()
        self.qmp.do('object-del', id='kvmi')
        self.assertTrue(self.tool.closed())

    def test_object_del_hmp(self):
        self.qemu()
        self.hooked()
        hmp = self.hmp()
        hmp.sendall(b'object_del kvmi\n')
        self.assertTrue(self.tool.asked_to_go())
        self.tool.close()
        self.hmp_read(hmp)
        wait_for(lambda: self.qmp.do('query-introspection') == [], 'deletion')

    def test_object_del_other(self):
        self.qemu('-object', 'secret,id=other,data=x')
        self.hooked()
        self.qmp.do('object-del', id='other')
        with self.assertRaises(RuntimeError):
            self.qmp.do('object-del', id='none')
        self.assertEqual(self.info()['state'], 'hooked')


class Save(Base):
    def job(self, name, qmp=None):
        qmp = qmp or self.qmp

        def done():
            for job in qmp.do('query-jobs'):
                if job['id'] == name and job['status'] == 'concluded':
                    qmp.do('job-dismiss', id=name)
                    return (job,)
            return None
        return wait_for(done, 'job')[0].get('error')

    def test_migrate(self):
        self.qemu()
        self.hooked()
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        self.assertTrue(self.tool.asked_to_go())
        wait_for(lambda: self.qmp.do('query-migrate')['status'] ==
                 'wait-unplug', 'wait-unplug')
        time.sleep(0.6)
        self.assertEqual(self.qmp.do('query-migrate')['status'],
                         'wait-unplug')
        self.assertEqual(self.qmp.do('query-status')['status'], 'running')
        self.tool.close()
        wait_for(lambda: self.qmp.do('query-migrate')['status'] ==
                 'completed', 'migration')
        self.assertTrue(self.tool.alone(0.3))
        self.qmp.do('cont')
        self.hooked()

    def test_migrate_silent_tool(self):
        self.qemu(options=',unhook-timeout=1')
        self.hooked()
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        wait_for(lambda: self.qmp.do('query-migrate')['status'] ==
                 'completed', 'migration')
        self.expect_log('PREUNHOOK', 'UNHOOK')

    def test_migrate_cancel(self):
        self.qemu()
        self.hooked()
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        self.assertTrue(self.tool.asked_to_go())
        self.qmp.do('migrate_cancel')
        began = time.monotonic()
        wait_for(lambda: self.qmp.do('query-migrate')['status'] ==
                 'cancelled', 'cancellation')
        self.assertLess(time.monotonic() - began, LIMIT / 4)
        self.assertEqual(self.info()['state'], 'unhooking')
        self.tool.close()
        self.hooked()

    # QEMU stops the guest first here; the tool is asked all the same.
    def test_migrate_cpr(self):
        self.qemu('-machine', 'memory-backend=ram', '-object',
                  'memory-backend-ram,id=ram,size=64M,share=on')
        self.hooked()
        self.qmp.do('migrate-set-parameters', mode='cpr-reboot')
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        self.assertTrue(self.tool.asked_to_go())
        self.assertNotEqual(self.qmp.do('query-migrate')['status'],
                            'completed')
        self.tool.close()
        wait_for(lambda: self.qmp.do('query-migrate')['status'] ==
                 'completed', 'migration')

    def test_migrate_fails(self):
        self.qemu()
        self.hooked()
        self.qmp.do('migrate', uri='exec:false')
        self.assertTrue(self.tool.asked_to_go())
        self.tool.close()
        wait_for(lambda: self.qmp.do('query-migrate')['status'] == 'failed',
                 'failure')
        self.hooked()

    def test_migrate_only_migratable(self):
        self.qemu('-only-migratable')
        self.hooked()
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        self.assertTrue(self.tool.asked_to_go())
        self.tool.close()
        wait_for(lambda: self.qmp.do('query-migrate')['status'] ==
                 'completed', 'migration')

    def test_background_snapshot(self):
        self.qemu()
        self.hooked()
        try:
            self.qmp.do('migrate-set-capabilities', capabilities=[
                {'capability': 'background-snapshot', 'state': True}])
        except RuntimeError as error:
            self.skipTest(str(error))
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        self.assertTrue(self.tool.asked_to_go())
        wait_for(lambda: self.qmp.do('query-migrate')['status'] ==
                 'wait-unplug', 'wait-unplug')
        self.tool.close()
        wait_for(lambda: self.qmp.do('query-migrate')['status'] in
                 ('completed', 'failed'), 'snapshot')

    def test_incoming(self):
        self.qemu()
        hello = self.hooked()
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        self.tool.close()
        wait_for(lambda: self.qmp.do('query-migrate')['status'] ==
                 'completed', 'migration')
        self.qmp.do('quit')
        self.ended()
        time.sleep(1.1)

        self.qemu('-incoming', 'defer', '-S', name='incoming')
        self.assertEqual(self.info()['state'], 'suspended')
        # The character device has connected once before it could be told.
        self.tool.listener.accept()[0].close()
        self.assertTrue(self.tool.alone(0.3))
        self.qmp.do('migrate-incoming', uri='file:' + self.path('state'))
        wait_for(lambda: self.qmp.do('query-status')['status'] == 'paused',
                 'the guest')
        self.assertTrue(self.tool.alone(0.3))
        self.assertEqual(self.log('incoming'), [])
        self.qmp.do('cont')
        self.assertEqual(start_time(self.hooked()), start_time(hello))

    def test_incoming_running(self):
        self.qemu()
        hello = self.hooked()
        self.qmp.do('migrate', uri='file:' + self.path('state'))
        self.tool.close()
        wait_for(lambda: self.qmp.do('query-migrate')['status'] ==
                 'completed', 'migration')
        time.sleep(1.1)
        self.qemu('-incoming', 'file:' + self.path('state'), name='incoming')
        self.assertEqual(start_time(self.hooked()), start_time(hello))

    def test_snapshot_save(self):
        self.qemu(*self.disk())
        first = self.hooked()
        self.qmp.send('snapshot-save', job_id='save', tag='one',
                      vmstate='disk', devices=['disk'])
        self.assertTrue(self.tool.asked_to_go())
        self.assertTrue(self.qmp.quiet(0.2))
        self.assertEqual(self.qmp.replies, [])
        self.tool.close()
        self.qmp.reply()
        self.assertIsNone(self.job('save'))
        self.assertEqual(start_time(self.hooked()), start_time(first))

        time.sleep(1.1)
        self.qmp.do('system_reset')
        self.assertTrue(self.tool.closed())
        self.assertGreater(start_time(self.hooked()), start_time(first))

        # What is loaded is the guest of before, also for the tool.
        self.qmp.do('snapshot-load', job_id='load', tag='one',
                    vmstate='disk', devices=['disk'])
        self.assertTrue(self.tool.closed())
        self.assertIsNone(self.job('load'))
        self.assertEqual(start_time(self.hooked()), start_time(first))

    def test_savevm(self):
        self.qemu(*self.disk())
        self.hooked()
        hmp = self.hmp()
        hmp.sendall(b'savevm one\n')
        self.assertTrue(self.tool.asked_to_go())
        self.tool.close()
        self.hmp_read(hmp)
        hmp.sendall(b'info snapshots\n')
        self.assertIn('one', self.hmp_read(hmp))
        self.hooked()

    def test_savevm_paused_hooked(self):
        self.qemu('-S', *self.disk())
        self.hooked()
        self.qmp.send('human-monitor-command', command_line='savevm one')
        self.assertTrue(self.tool.asked_to_go())
        self.tool.close()
        self.assertEqual(self.qmp.reply(), '')
        self.hooked()


def run(*tests):
    """Runs all tests, or these; prints TAP."""
    runner = tap.TAPTestRunner()
    runner.set_stream(True)
    unittest.main(argv=[sys.argv[0], *tests], testRunner=runner)


def main():
    global QEMU, SHIM
    if len(sys.argv) < 3:
        sys.exit('usage: test.py QEMU SHIM [TEST...]')
    QEMU, SHIM = map(os.path.realpath, sys.argv[1:3])
    run(*sys.argv[3:])


if __name__ == '__main__':
    main()
