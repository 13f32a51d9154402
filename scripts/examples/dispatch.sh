#!/bin/sh
# Dispatches with redis-cli alone, waits for the end and prints what became of it:
#
#   ./dispatch.sh '{"uptime": 10, "df -h": 5}' web-1 web-2
#
# The commands are a JSON object of command and priority; the highest priority runs
# first. Without a host every one that is online is meant. REDIS_URL names the Redis.
# Status: 0 every host is done, 1 some host is not, or there is none, 2 the request was
# rejected.
set -eu

redis() { redis-cli -u "${REDIS_URL:-redis://127.0.0.1:6379}" --raw "$@"; }

commands=$1
shift
if [ $# -gt 0 ]; then
  hosts=$(printf '"%s",' "$@") # a host id has no character that JSON would escape
  id=$(redis XADD muster:requests '*' commands "$commands" hosts "[${hosts%,}]")
else
  id=$(redis XADD muster:requests '*' commands "$commands")
fi
case $id in
  [0-9]*-[0-9]*) ;;
  *) echo "Redis says: $id" >&2; exit 1 ;;
esac
number=AC$id # the task number of an entry that names none

# The ledger is there once a worker has taken the request, and closed when no host is
# open any more. Until it is there an event may say that the request was rejected.
while stage=$(redis HGET "{$number}:meta" state); [ "$stage" != closed ]; do
  if [ -z "$stage" ]; then
    reason=$(redis XRANGE '{muster}:events' "${id%-*}" + | awk -v id="$id" '
      before == "type"                { rejected = $0 == "request.rejected"; mine = 0 }
      rejected && before == "request" { mine = $0 == id }
      mine && before == "reason"      { print; exit }
      { before = $0 }')
    if [ -n "$reason" ]; then
      echo "rejected: $reason" >&2
      exit 2
    fi
  fi
  sleep 1
done

echo "$number is closed"
redis HGETALL "{$number}:hosts" | paste - - # host, state

redis EVAL '
  local text = {}
  for _, entry in ipairs(redis.call("XRANGE", KEYS[1], "-", "+")) do
    local r = {}
    for i = 1, #entry[2], 2 do r[entry[2][i]] = entry[2][i + 1] end
    text[#text + 1] = r.host .. "  exit " .. r.exit_code .. "  " .. r.command .. "\n" .. r.stdout .. r.stderr
  end
  return table.concat(text)' 1 "{$number}:results"

total=$(redis HGET "{$number}:meta" total)
[ "$total" != 0 ] && [ "$(redis HGET "{$number}:meta" done)" = "$total" ]
