"""Two small scripts of the shared ledger: who lives, and rows that all sidecars know.

KEYS of both: members (a sorted set by last sign of life), rows (a hash), their order (a sorted set), the revision (a
counter). Names and values are any bytes. What rows mean is shared_standings.py's affair.
"""

from sidecar.core.sharing import SEEN_S

# ARGV: the caller, and whether it leaves. -> how many live, the revision of the rows
LUA_ALIVE = f"""
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
if ARGV[2] == '1' then redis.call('ZREM', KEYS[1], ARGV[1])
else redis.call('ZADD', KEYS[1], now, ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - {SEEN_S})
return {{redis.call('ZCARD', KEYS[1]), tonumber(redis.call('GET', KEYS[4]) or '0')}}
"""

# ARGV: how many names to remove, these, then names and values in turn. One that is written again goes to the end
LUA_SAVE = """
local revision = redis.call('INCR', KEYS[4])
local removed = tonumber(ARGV[1])
for at = 2, 1 + removed do
  redis.call('HDEL', KEYS[2], ARGV[at])
  redis.call('ZREM', KEYS[3], ARGV[at])
end
for at = 2 + removed, #ARGV, 2 do
  local last = redis.call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  redis.call('ZADD', KEYS[3], (tonumber(last[2]) or 0) + 1, ARGV[at])
end
return revision
"""
