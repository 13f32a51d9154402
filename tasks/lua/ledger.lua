-- Shared beginning of every script that changes the ledger of a task set. It is no
-- script of its own. In each of them KEYS[1] is {AC131}:meta; where hosts are written
-- KEYS[2] is {AC131}:hosts and KEYS[3] {AC131}:awaiting.

local OPEN = { waiting = 0, sent = 1, acknowledged = 2, received = 3, working = 4 }
local SOFT = { offline = true, missing = true, unanswered = true }

-- Redis's clock, Unix milliseconds. Every time in a ledger is by this clock.
local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- A number as Redis should store it: whole, without an exponent.
local function whole(n)
  return string.format('%.0f', n)
end

-- Gives a key its expiry if it has none yet: keys get it when they are made.
local function expire_new(key, expire_ms)
  if redis.call('PTTL', key) == -1 then
    redis.call('PEXPIREAT', key, expire_ms)
  end
end

-- Reads the states of hosts, at most a few hundred: host -> state or false.
local function states_of(hosts)
  local states = {}
  if #hosts > 0 then
    local values = redis.call('HMGET', KEYS[2], unpack(hosts))
    for i, host in ipairs(hosts) do
      states[host] = values[i]
    end
  end
  return states
end

-- Writes the changes, host -> {from, to} (from is false for a new host), and what
-- hangs on them: the counters, the total and the set of those awaited. All in this
-- one script, so that the counters add up to the total at every moment.
local function write_states(changes, expire_ms)
  local fields, gone, awaited, delta, new, any = {}, {}, {}, {}, 0, false
  for host, c in pairs(changes) do
    any = true
    fields[#fields + 1] = host
    fields[#fields + 1] = c[2]
    delta[c[2]] = (delta[c[2]] or 0) + 1
    if c[1] then
      delta[c[1]] = (delta[c[1]] or 0) - 1
    else
      new = new + 1
    end
    if c[2] == 'sent' then
      awaited[#awaited + 1] = host
    elseif c[1] == 'sent' then
      gone[#gone + 1] = host
    end
  end
  if not any then
    return
  end
  redis.call('HSET', KEYS[2], unpack(fields))
  if #gone > 0 then
    redis.call('SREM', KEYS[3], unpack(gone))
  end
  if #awaited > 0 then
    redis.call('SADD', KEYS[3], unpack(awaited))
    expire_new(KEYS[3], expire_ms)
  end
  for state, n in pairs(delta) do
    redis.call('HINCRBY', KEYS[1], state, n)
  end
  redis.call('HINCRBY', KEYS[1], 'total', new)
  expire_new(KEYS[2], expire_ms)
end

-- Closes the set if it is open and no host of it is. It stays closed when a host that
-- was offline, missing or unanswered is heard of after all. Returns 1 if the set is
-- closed and its end is not known to have been announced, else 0.
local function close_if_over(now)
  local m = redis.call('HMGET', KEYS[1], 'state', 'announced',
    'waiting', 'sent', 'acknowledged', 'received', 'working')
  if m[1] == 'open' then
    for i = 3, 7 do
      if tonumber(m[i] or 0) > 0 then
        return 0
      end
    end
    redis.call('HSET', KEYS[1], 'state', 'closed', 'closed_ms', whole(now))
    return 1
  end
  if m[1] == 'closed' and not m[2] then
    return 1
  end
  return 0
end
