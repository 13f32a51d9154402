-- Brings answers and reports of hosts into the ledger of their task set. What comes
-- twice changes nothing the second time.
--
-- KEYS  1 {AC131}:meta  2 {AC131}:hosts  3 {AC131}:awaiting  4 AC131
--       5 {AC131}:working  6 {AC131}:complete  7 {AC131}:oncall
--       8 {AC131}:failing  9 {AC131}:results
-- ARGV  1 limit of all outputs of the set together, bytes
--       then reports, one after another, each either
--         host, 'answer', RCC
--       or
--         host, 'status', phase, working ('': none), lists (1: they follow),
--         [number, complete..., number, oncall...], result (1: it follows),
--         [command, exit_code, duration_ms, stdout, stderr, stdout_bytes,
--          stderr_bytes, truncated, error]
--
-- Returns {over, strangers, passed over}: over is 1 if the set is closed and that is
-- to be announced; strangers counts the reports of hosts that are not in the set;
-- passed over counts the commands that are not in the set. -1 in place of over says
-- that there is no such set.
local m = redis.call('HMGET', KEYS[1], 'state', 'deadline_ms', 'expire_ms', 'commands', 'output_bytes')
if not m[1] then
  return { -1, 0, 0 }
end
local now = now_ms()
local in_time = now < tonumber(m[2])
local expire_ms, commands = m[3], tonumber(m[4])
local output_bytes = tonumber(m[5] or 0)
local strangers, passed = 0, 0

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
  r.phase, r.working = tonumber(take()), take()
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

-- Whether a command is in the set; most sets are small, and most reports of a batch
-- name the same commands.
local known = {}
local function in_set(command)
  if known[command] == nil then
    known[command] = redis.call('ZSCORE', KEYS[4], command) and true or false
  end
  return known[command]
end

local touched = {}
local function put(key, host, value)
  redis.call('HSET', key, host, value)
  if not touched[key] then
    expire_new(key, expire_ms)
    touched[key] = true
  end
end
local function push(key, list)
  if #list > 0 and redis.call('RPUSH', key, unpack(list)) == #list then
    redis.call('PEXPIREAT', key, expire_ms)
  end
end

-- The states as they will be, and the changes that lead there.
local reports, hosts = {}, {}
while at <= #ARGV do
  reports[#reports + 1] = take_report()
  hosts[#hosts + 1] = reports[#reports].host
end
local states, changes = states_of(hosts), {}

local function advance(host, to)
  local from = states[host]
  local further = OPEN[from] and (OPEN[to] == nil or OPEN[to] > OPEN[from])
  if in_time and (further or SOFT[from]) then
    changes[host] = { changes[host] and changes[host][1] or from, to }
    states[host] = to
  end
end

local function store_result(host, r)
  local stdout, stderr, truncated = r.stdout, r.stderr, r.truncated
  local size = #stdout + #stderr
  if output_bytes + size > tonumber(ARGV[1]) then
    stdout, stderr = '', ''
    if size > 0 then
      truncated = '1'
    end
  else
    output_bytes = output_bytes + size
    redis.call('HINCRBY', KEYS[1], 'output_bytes', size)
  end
  redis.call('XADD', KEYS[9], '*', 'host', host, 'command', r.command,
    'exit_code', r.exit_code, 'duration_ms', r.duration_ms,
    'stdout', stdout, 'stderr', stderr,
    'stdout_bytes', r.stdout_bytes, 'stderr_bytes', r.stderr_bytes,
    'truncated', truncated, 'error', r.error)
  if not touched[KEYS[9]] then
    expire_new(KEYS[9], expire_ms)
    touched[KEYS[9]] = true
  end
  if r.exit_code ~= '0' or r.error ~= '' then
    redis.call('SADD', KEYS[8], host)
    expire_new(KEYS[8], expire_ms)
  end
end

-- The stored list as a set: command -> true.
local function stored(key)
  local have = {}
  for _, command in ipairs(redis.call('LRANGE', key, 0, -1)) do
    have[command] = true
  end
  return have
end

-- A report with both lists: what it has run and the stored list lacks is appended,
-- what it no longer has to run is removed.
local function merge_lists(r, complete_key, oncall_key)
  local ran = stored(complete_key)
  local before, appended = {}, {}
  for command in pairs(ran) do
    before[command] = true
  end
  for _, command in ipairs(r.complete) do
    if not in_set(command) then
      passed = passed + 1
    elseif not ran[command] then
      ran[command] = true
      appended[#appended + 1] = command
    end
  end
  push(complete_key, appended)

  local named, wanted = {}, {}
  for _, command in ipairs(r.oncall) do
    if not in_set(command) then
      passed = passed + 1
    elseif not named[command] then
      named[command] = true
      if not before[command] then
        wanted[#wanted + 1] = command
      end
    end
  end
  if redis.call('HEXISTS', KEYS[7], r.host) == 0 then
    push(oncall_key, wanted)
    put(KEYS[7], r.host, oncall_key)
    put(KEYS[6], r.host, complete_key)
  else
    for command in pairs(stored(oncall_key)) do
      if not named[command] then
        redis.call('LREM', oncall_key, 0, command)
      end
    end
  end
  if r.result and ran[r.result.command] and not before[r.result.command] then
    store_result(r.host, r.result)
  end
  return ran
end

-- A report of one command that has ended, without lists.
local function move_one(r, complete_key, oncall_key)
  local command = r.result.command
  if not in_set(command) then
    passed = passed + 1
    return
  end
  if redis.call('LPOS', complete_key, command) then
    return
  end
  push(complete_key, { command })
  redis.call('LREM', oncall_key, 0, command)
  put(KEYS[6], r.host, complete_key)
  store_result(r.host, r.result)
end

-- What runs now, as far as this report can tell: what has been run runs no more.
local function note_working(r, complete_key, ran)
  local function has_run(command)
    if ran then
      return ran[command]
    end
    return redis.call('LPOS', complete_key, command)
  end
  if r.working ~= '' and not in_set(r.working) then
    passed = passed + 1
  elseif r.working ~= '' and OPEN[states[r.host]] and not has_run(r.working) then
    put(KEYS[5], r.host, r.working)
    return
  end
  local running = redis.call('HGET', KEYS[5], r.host)
  if running and (not OPEN[states[r.host]] or has_run(running)) then
    redis.call('HDEL', KEYS[5], r.host)
  end
end

for _, r in ipairs(reports) do
  if not states[r.host] then
    strangers = strangers + 1
  elseif r.kind == 'answer' then
    if r.rcc == '1' then
      advance(r.host, 'acknowledged')
    elseif r.rcc == '2' and states[r.host] == 'sent' then
      advance(r.host, 'missing')
    end
  else
    local complete_key, oncall_key = KEYS[6] .. ':' .. r.host, KEYS[7] .. ':' .. r.host
    local ran
    if r.complete then
      ran = merge_lists(r, complete_key, oncall_key)
    elseif r.result then
      move_one(r, complete_key, oncall_key)
    end
    if (r.complete or r.result) and redis.call('LLEN', complete_key) >= commands then
      local bad = redis.call('SISMEMBER', KEYS[8], r.host) == 1
      advance(r.host, bad and 'failed' or 'done')
    end
    advance(r.host, r.phase == 1 and 'received' or 'working')
    note_working(r, complete_key, ran)
  end
end

write_states(changes, expire_ms)
return { close_if_over(now), strangers, passed }
