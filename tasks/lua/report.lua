-- Brings answers and reports of hosts into the ledger of their task set. What comes
-- twice, or late, changes nothing that a later report has settled.
--
-- KEYS  1 {AC131}:meta  2 {AC131}:hosts  3 {AC131}:awaiting  4 AC131
--       5 {AC131}:working  6 {AC131}:complete  7 {AC131}:oncall
--       8 {AC131}:failing  9 {AC131}:results  10 {AC131}:sends
--       (and the lists {AC131}:complete:<host> and {AC131}:oncall:<host>)
-- ARGV  1 limit of all outputs of the set together, bytes
--       then reports, one after another, each either
--         host, 'answer', RCC
--       or
--         host, 'status', phase, working ('': none), lists (1: they follow),
--         [number, complete..., number, oncall...], result (1: it follows),
--         [command, exit_code, duration_ms, stdout, stderr, stdout_bytes,
--          stderr_bytes, truncated, error]
--
-- Returns {over, strangers, passed over, again, delay...}: over is 1 if the set is closed and that
-- is to be announced; strangers counts the reports of hosts that are not in the set;
-- passed over counts the commands that are not in the set; again is 1 if a host has
-- asked to be sent the number again; a delay for each host that is heard of for the first
-- time: ms since the number was first sent to it. -1 in place of over says that there is no
-- such set, and then nothing is written.
local m = redis.call('HMGET', KEYS[1], 'state', 'deadline_ms', 'expire_ms', 'commands', 'output_bytes',
  'sent_ms', 'cancelled_ms', 'retry_ms')
if not m[1] then
  return { -1, 0, 0, 0 }
end
local now = now_ms()
local in_time = now < tonumber(m[2])
local expire_ms, commands, output_bytes = m[3], tonumber(m[4]), tonumber(m[5] or 0)
local cancelled = m[7]
local strangers, passed, again = 0, 0, 0

-- Reading the arguments.
local at = 2
local function take()
  at = at + 1
  return ARGV[at - 1]
end
local function take_list()
  local list = {}
  for i = 1, tonumber(take()) do
    list[i] = take()
  end
  return list
end
local function take_report()
  local r = { host = take(), kind = take() }
  if r.kind == 'answer' then
    r.rcc = take()
    return r
  end
  r.phase, r.working = take(), take()
  if take() == '1' then
    r.complete, r.oncall = take_list(), take_list()
  end
  if take() == '1' then
    r.result = {}
    for _, name in ipairs({ 'command', 'exit_code', 'duration_ms', 'stdout', 'stderr',
      'stdout_bytes', 'stderr_bytes', 'truncated', 'error' }) do
      r.result[name] = take()
    end
  end
  return r
end

local reports, hosts = {}, {}
while at <= #ARGV do
  reports[#reports + 1] = take_report()
  hosts[#hosts + 1] = reports[#reports].host
end

-- The states as they will be, and the changes that lead there.
local states, changes = states_of(hosts), {}

local function open(host)
  return in_time and OPEN[states[host]]
end

local function advance(host, to)
  local from = states[host]
  if cancelled and OPEN[to] then
    to = 'cancelled' -- nothing is open in a set that was cancelled
  end
  local further = OPEN[from] and (not OPEN[to] or OPEN[to] > OPEN[from])
  if in_time and (further or SOFT[from]) then
    changes[host] = { changes[host] and changes[host][1] or from, to }
    states[host] = to
  end
end

local function set_of(list)
  local set = {}
  for _, member in ipairs(list) do
    set[member] = true
  end
  return set
end

-- Whether a command is in the set. The set is read once, so that lists of any length
-- cost no more than their length.
local known
local function in_set(command)
  known = known or set_of(redis.call('ZRANGE', KEYS[4], 0, -1))
  return known[command]
end

local function put(key, host, value)
  redis.call('HSET', key, host, value)
  expire_new(key, expire_ms)
end

local function push(key, list)
  if #list > 0 then
    redis.call('RPUSH', key, unpack(list))
    expire_new(key, expire_ms)
  end
end

local function store_result(host, r)
  local stdout, stderr, truncated = r.stdout, r.stderr, r.truncated
  local size = #stdout + #stderr
  if output_bytes + size > tonumber(ARGV[1]) then
    stdout, stderr, truncated = '', '', '1'
  else
    output_bytes = redis.call('HINCRBY', KEYS[1], 'output_bytes', size)
  end
  redis.call('XADD', KEYS[9], '*', 'host', host, 'command', r.command,
    'exit_code', r.exit_code, 'duration_ms', r.duration_ms,
    'stdout', stdout, 'stderr', stderr,
    'stdout_bytes', r.stdout_bytes, 'stderr_bytes', r.stderr_bytes,
    'truncated', truncated, 'error', r.error)
  expire_new(KEYS[9], expire_ms)
  if r.exit_code ~= '0' or r.error ~= '' then
    redis.call('SADD', KEYS[8], host)
    expire_new(KEYS[8], expire_ms)
  end
end

-- A report with both lists. The first one makes the host's list of what is to be run,
-- less what a report that overtook it has ended. From then on by difference: what is
-- no longer to be run is removed, what has been run is appended.
local function merge_lists(r, complete_key, oncall_key)
  local ran = set_of(redis.call('LRANGE', complete_key, 0, -1))
  local named, wanted, ended = {}, {}, {}
  for _, command in ipairs(r.oncall) do
    if not in_set(command) then
      passed = passed + 1
    elseif not named[command] then
      named[command] = true
      if not ran[command] then
        wanted[#wanted + 1] = command
      end
    end
  end
  if redis.call('HEXISTS', KEYS[7], r.host) == 0 then
    push(oncall_key, wanted)
    put(KEYS[7], r.host, oncall_key)
    put(KEYS[6], r.host, complete_key)
  else
    for _, command in ipairs(redis.call('LRANGE', oncall_key, 0, -1)) do
      if not named[command] then
        redis.call('LREM', oncall_key, 1, command)
      end
    end
  end
  for _, command in ipairs(r.complete) do
    if not in_set(command) then
      passed = passed + 1
    elseif not ran[command] then
      ran[command] = true
      ended[#ended + 1] = command
      if r.result and r.result.command == command then
        store_result(r.host, r.result)
      end
    end
  end
  push(complete_key, ended)
end

-- A report of one command that has ended, without lists.
local function move_one(r, complete_key, oncall_key)
  local command = r.result.command
  if not in_set(command) then
    passed = passed + 1
  elseif not redis.call('LPOS', complete_key, command) then
    push(complete_key, { command })
    put(KEYS[6], r.host, complete_key)
    redis.call('LREM', oncall_key, 1, command)
    store_result(r.host, r.result)
  end
end

-- What runs now. A command that has ended runs no more, whatever a late report says;
-- and a report without one ends none, since it may itself be late.
local function note_working(r, complete_key)
  local command = r.working
  if command ~= '' and not in_set(command) then
    passed = passed + 1
  elseif command ~= '' and open(r.host) and not redis.call('LPOS', complete_key, command) then
    put(KEYS[5], r.host, command)
  end
  local running = redis.call('HGET', KEYS[5], r.host)
  if running and redis.call('LPOS', complete_key, running) then
    redis.call('HDEL', KEYS[5], r.host)
  end
end

-- The host could not read what it was sent. sends.lua reads the mark '!' as due at
-- once; the time before it is when the host is due without that.
local function ask_again(host)
  local counted = redis.call('HGET', KEYS[10], host)
  if not counted then
    counted = '1:' .. whole(tonumber(m[6] or now) + tonumber(m[8] or 3000))
  end
  if string.sub(counted, -1) ~= '!' then
    redis.call('HSET', KEYS[10], host, counted .. '!')
    expire_new(KEYS[10], expire_ms)
  end
  again = 1
end

for _, r in ipairs(reports) do
  if not states[r.host] then
    strangers = strangers + 1
  elseif r.kind == 'answer' then
    if r.rcc == '1' then
      advance(r.host, 'acknowledged')
    elseif r.rcc == '2' and states[r.host] == 'sent' then
      advance(r.host, 'missing')
    elseif r.rcc == '3' and states[r.host] == 'sent' then
      ask_again(r.host)
    end
  else
    local complete_key, oncall_key = KEYS[6] .. ':' .. r.host, KEYS[7] .. ':' .. r.host
    if r.complete then
      merge_lists(r, complete_key, oncall_key)
    elseif r.result then
      move_one(r, complete_key, oncall_key)
    end
    if redis.call('LLEN', complete_key) >= commands then
      local bad = redis.call('SISMEMBER', KEYS[8], r.host) == 1
      advance(r.host, bad and 'failed' or 'done')
    end
    advance(r.host, r.phase == '1' and 'received' or 'working')
    note_working(r, complete_key)
  end
end

-- How long the hosts took that had not been heard of. One that was waited for was sent
-- the number when it came online, see wake.lua, the others when the set was opened.
local function delays()
  local silent, list = {}, {}
  for host, c in pairs(changes) do
    if c[1] == 'sent' or c[1] == 'unanswered' or c[1] == 'offline' then
      silent[#silent + 1] = host
    end
  end
  local sends = #silent > 0 and redis.call('HMGET', KEYS[10], unpack(silent)) or {}
  for i in ipairs(silent) do
    local first = string.match(sends[i] or '', '@(%d+)') or m[6] or now
    list[i] = math.max(0, now - tonumber(first))
  end
  return list
end

write_states(changes, expire_ms)
return { close_if_over(now), strangers, passed, again, unpack(delays()) }
