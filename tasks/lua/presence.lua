-- Changes of presence at one listener, in order.
--
-- KEYS  1 {muster}:online  2 {muster}:clients  3 {muster}:listeners
--       4 {muster}:events  5 {muster}:departed  6 {muster}:at:<listener>
-- ARGV  1 the listener  2 events kept  3 'sweep' if the listener is to be dead
--       then one change or more: 'on' | 'hold', host, udp address, client, until_ms
--                                'off', host, '', '', ''
--
--   on    the host has connected here: the newest connection holds it. After until_ms, or
--         from a listener whose lease has ended, it is no more than a hold: who holds the
--         host by then may have a newer connection
--   hold  the host is still connected here: whoever holds it may keep it
--   off   the host has no connection here any more
--
-- Returns {now_ms, verdict, detail, verdict, detail, ...}, for each change one of
--   'on' ''             it is on the roll, where it was not
--   'held' ''           it is on the roll, as before
--   'refused' listener  another connection holds it and this one is to be closed
--   'off' time_us       it is off the roll: finish with depart.lua and gone.lua
--   'kept' ''           it was not on the roll for this listener, or another has it,
--                       or the listener was to be dead and lives
local me, cap = ARGV[1], ARGV[2]
local t = redis.call('TIME')
local now_us = tonumber(t[1]) * 1000000 + tonumber(t[2])
local now = math.floor(now_us / 1000)

local leases = {}
local all = redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
  leases[all[i]] = tonumber(all[i + 1])
end
local function live(listener)
  return leases[listener] ~= nil and leases[listener] > now
end
local spared = ARGV[3] == 'sweep' and live(me)

-- One read of all that the hosts have, and one write at the end of what is new: what
-- the roll knows already is no write, which replicas would get too. (here says what is
-- to become of a host's place in the set; to set it again is none in Redis itself.)
local hosts = {}
for i = 4, #ARGV, 5 do
  hosts[#hosts + 1] = ARGV[i + 1]
end
local place, client, departed, here = {}, {}, {}, {}
local was_place, was_client = {}, {}
local places = redis.call('HMGET', KEYS[1], unpack(hosts))
local clients = redis.call('HMGET', KEYS[2], unpack(hosts))
local scores = redis.call('ZMSCORE', KEYS[5], unpack(hosts))
for i, host in ipairs(hosts) do
  place[host], client[host], departed[host] = places[i], clients[i], scores[i]
  was_place[host], was_client[host] = places[i], clients[i]
end

local function holder_of(host)
  return place[host] and string.match(place[host], '^.*@(.*)$')
end
local function is_agent(c)
  return c and string.sub(c, 1, 6) == 'agent '
end
local function event(kind, host, name, value)
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', cap, '*', 'type', kind, 'host', host,
    'listener', me, name, value)
end

-- Another live listener that has a connection of the host.
local function other_with(host)
  for listener in pairs(leases) do
    if listener ~= me and live(listener)
      and redis.call('SISMEMBER', '{muster}:at:' .. listener, host) == 1 then
      return listener
    end
  end
end

local function take(host, address, kind)
  local new = not place[host]
  if departed[host] then
    -- Its last departure is not finished: the event comes now, before its return.
    redis.call('ZREM', KEYS[5], host)
    departed[host] = false
    event('host.offline', host, 'reason', 'connection ended')
  end
  place[host], client[host], here[host] = address .. '@' .. me, kind, true
  if new then
    event('host.online', host, 'client', kind)
  end
  return new
end

local replies = { now }
local function reply(verdict, detail)
  replies[#replies + 1] = verdict
  replies[#replies + 1] = detail or ''
end

local function on(host, address, kind, newest, timely)
  local holder = holder_of(host)
  if holder and holder ~= me and live(holder) then
    local same = client[host] == kind
    local single = is_agent(client[host]) or is_agent(kind)
    if single and not same then
      if newest then
        event('host.duplicate', host, 'reason',
          'another instance is connected to ' .. holder)
      end
      return reply('refused', holder)
    end
    if not (newest and timely and live(me)) then
      if single then
        return reply('refused', holder)
      end
      here[host] = true
      return reply('held')
    end
    if single then
      -- The same agent has reconnected here: its older connection ends.
      redis.call('SREM', '{muster}:at:' .. holder, host)
      redis.call('PUBLISH', '{muster}:to:' .. holder, host)
    end
  end
  reply(take(host, address, kind) and 'on' or 'held')
end

local function off(host)
  if spared then
    return reply('kept')
  end
  here[host] = false
  local holder = holder_of(host)
  if holder and holder ~= me then
    return reply('kept')
  end
  if not place[host] then
    client[host] = false
    if departed[host] then -- this change was made before, and its answer lost
      return reply('off', string.format('%.0f', tonumber(departed[host])))
    end
    return reply('kept')
  end
  local other = not is_agent(client[host]) and other_with(host)
  if other then
    place[host] = string.gsub(place[host], '@[^@]*$', '') .. '@' .. other
    -- Its client there may be of the other form: that listener says so.
    redis.call('PUBLISH', '{muster}:to:' .. other, host)
    return reply('kept')
  end
  place[host], client[host] = false, false
  departed[host] = string.format('%.0f', now_us)
  redis.call('ZADD', KEYS[5], departed[host], host)
  redis.call('PUBLISH', '{muster}:off', host)
  reply('off', departed[host])
end

for i = 4, #ARGV, 5 do
  local change, host = ARGV[i], ARGV[i + 1]
  if change == 'off' then
    off(host)
  else
    local ends = tonumber(ARGV[i + 4])
    on(host, ARGV[i + 2], ARGV[i + 3], change == 'on', not ends or now <= ends)
  end
end

local function write(key, before, after)
  local set, del = {}, {}
  for _, host in ipairs(hosts) do
    if after[host] ~= before[host] then
      if after[host] then
        set[#set + 1] = host
        set[#set + 1] = after[host]
      else
        del[#del + 1] = host
      end
    end
  end
  if #set > 0 then
    redis.call('HSET', key, unpack(set))
  end
  if #del > 0 then
    redis.call('HDEL', key, unpack(del))
  end
end
write(KEYS[1], was_place, place)
write(KEYS[2], was_client, client)
local add, rem = {}, {}
for _, host in ipairs(hosts) do
  if here[host] then
    add[#add + 1] = host
  elseif here[host] == false then
    rem[#rem + 1] = host
  end
end
if #add > 0 then
  redis.call('SADD', KEYS[6], unpack(add))
end
if #rem > 0 then
  redis.call('SREM', KEYS[6], unpack(rem))
end
return replies
