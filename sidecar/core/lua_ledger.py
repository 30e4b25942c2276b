"""The script of the shared ledger: one call of one sidecar about one quota (account x model), decided at the server.

In one step it takes back what is returned, settles what was used, takes in what the caller has learned, then tests all
windows and spends all, for waiting requests in order of arrival over all sidecars, and for a little ahead. The windows
run on the server's clock. What a sidecar holds unspent is moved to the present at each of its calls, so that it stands
where its holder may still spend it. Calls are numbered: one that arrives late, or twice, changes nothing.

KEYS: the account's hash, the quota's row (both of one hash tag). ARGV: the call as JSON (lease_call.py has its fields).
Refuses to know keys, models, and what a request is.
"""

from sidecar.core.lua_outage import LUA_OUTAGE
from sidecar.core.lua_windows import LUA_WINDOWS

_MEMBERS = r"""
local SECOND = 1000000
local SEEN = 2 * SECOND         -- a sidecar that calls no more for so long has no lease any more
local QUIET = 1.5 * SECOND      -- nothing is granted by a ledger without a past before all who knew one have called
local LOST = 120 * SECOND       -- a quota that is new so soon after the loss of the ledger may have been in the old one
local HOUR = 3600 * SECOND      -- longer windows are not taken to be spent when nothing is known
local PROBING = 600 * SECOND    -- no answer takes longer: another one probes
local REMEMBERED = 8            -- requests of one sidecar that wait: those behind come when these are served
local KEPT = 48 * 3600 * 1000   -- ms without a call after which all windows are whole anyway

local call = cjson.decode(ARGV[1])
local time = @CLOCK@
local unix = time[1] * SECOND + time[2]

local known = redis.call('HMGET', KEYS[1], 'epoch', 'base', 'quiet', 'lost')
local epoch, base, quiet, lost = known[1], tonumber(known[2]), tonumber(known[3]), tonumber(known[4])
if not epoch then
  epoch, base, lost = string.format('%s:%.0f', call.m, unix), unix, 0
  quiet = call.e == '' and QUIET or 0
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'base', string.format('%.0f', base), 'quiet', quiet, 'lost', 0)
end
local now = unix - base
local knew_another = call.e ~= '' and call.e ~= epoch
if knew_another and lost == 0 then
  lost = unix
  redis.call('HSET', KEYS[1], 'lost', string.format('%.0f', lost))
end

local row = redis.call('GET', KEYS[2])
local q = row and cmsgpack.unpack(row) or {w = {}, m = {}, h = {}, gate = 'open', cool = 0, last = now}
local specs, order = {}, {}
for _, w in ipairs(call.w) do
  local ends = w[6] == 0 and 0 or w[6] - base
  local spec = {id = w[1], kind = w[2], limit = w[3], span = w[4], transit = w[5], ends = ends, base = base}
  specs[spec.id], order[#order + 1] = spec, spec
  local saved = q.w[spec.id]
  if not saved or saved.kind ~= spec.kind then q.w[spec.id] = {kind = spec.kind, w = kinds[spec.kind].new()} end
end
local function spend(spec, amount)
  if amount > 0 then kinds[spec.kind].spend(q.w[spec.id].w, spec, amount, now) end
end
local function refund(spec, amount, at)
  if amount > 0 then kinds[spec.kind].refund(q.w[spec.id].w, spec, amount, now, at) end
end
local function left(spec) return remaining(q.w[spec.id].w, spec, now) end

-- after a loss short windows are taken to be spent, long ones as far as any sidecar remembers
if (knew_another or (not row and lost > 0 and unix - lost < LOST)) and q.drained ~= epoch then
  for _, spec in ipairs(order) do
    if spec.span <= HOUR then spend(spec, left(spec)) end
  end
  q.drained = epoch
end
if knew_another then
  for id, used in pairs(call.l) do
    local spec = specs[id]
    if spec then spend(spec, math.min(left(spec), used - (spec.limit - left(spec)))) end
  end
end

local me = q.m[call.m] or {seq = 0, at = now, out = {}}
local is_late = call.s <= me.seq

local function settle()
  for _, batch in ipairs(call.b) do
    if batch.s > me.seq then
      for id, amount in pairs(batch.u) do me.out[id] = (me.out[id] or 0) - amount end
      for id, amount in pairs(batch.k) do
        me.out[id] = (me.out[id] or 0) - amount
        if specs[id] then refund(specs[id], amount, me.at) end
      end
      for _, each in ipairs(batch.r) do
        if specs[each[1]] then refund(specs[each[1]], each[2], now - each[3]) end
      end
    end
  end
  me.seq = call.s
  for _, spec in ipairs(order) do
    local out = me.out[spec.id] or 0
    if out > 0 then refund(spec, out, me.at) end  -- what is held moves to the present
    spend(spec, math.abs(out))                    -- and what was used beyond it is spent now
    me.out[spec.id] = math.max(0, out)
  end
  me.at, me.seen = now, now
end

local function learn()
  for id, amount in pairs(call.t) do
    local spec = specs[id]
    if spec and amount < left(spec) then spend(spec, left(spec) - amount) end
  end
  for name, told in pairs(call.h) do
    local before = q.h[name]
    if not before or told[2] > before[2] then q.h[name] = told end
  end
  if call.c > 0 and now + call.c > q.cool + 1000 then
    q.cool, q.gate, q.probe = now + call.c, 'cooling', nil
  elseif q.probe == call.m then
    if call.g == 'open' then q.gate, q.probe = 'open', nil
    elseif call.g == 'cooling' then q.probe = nil end
  end
end
"""

_GRANTS = r"""
local grants = {next = -1}

-- what others wait for since before `at`, of each window; all of it for nil
local function reserved(at)
  local sums = {}
  for name, each in pairs(q.m) do
    if name ~= call.m and each.needs and now - each.seen <= SEEN then
      for _, need in ipairs(each.needs) do
        if not at or need.at < at then
          for id, amount in pairs(need.a) do sums[id] = (sums[id] or 0) + amount end
        end
      end
    end
  end
  return sums
end

local function give_all_back()
  for _, spec in ipairs(order) do
    refund(spec, me.out[spec.id], now)
    me.out[spec.id] = 0
  end
end

-- what is missing of a cumulated need, or nil when nothing is
local function missing(total)
  local add, is_any = {}, false
  for _, spec in ipairs(order) do
    local amount = (total[spec.id] or 0) - me.out[spec.id]
    if amount > 0 then add[spec.id], is_any = amount, true end
  end
  return is_any and add or nil
end

local function grant(add)
  for id, amount in pairs(add) do
    spend(specs[id], amount)
    me.out[id] = me.out[id] + amount
  end
end

local function gate(active)
  if now < quiet then return quiet - now end
  if q.gate ~= 'cooling' then return nil end
  if now < q.cool then return q.cool - now end
  local prober = q.probe and q.m[q.probe]
  if prober and q.probe ~= call.m and now - prober.seen <= SEEN and now - q.probe_at < PROBING then
    return SECOND / 4
  end
  if not call.n[1] then return SECOND / 4 end
  if q.probe ~= call.m then q.probe, q.probe_at = call.m, now end
  return nil
end

-- each waiting request in turn, before whoever came later; what cannot be had now is remembered for its turn
local function serve_waiting()
  local total, unserved = {}, {}
  local most = q.gate == 'cooling' and 1 or #call.n
  for at = 1, #call.n do
    local need = call.n[at]
    local since = now - need[1]
    for id, amount in pairs(need[2]) do total[id] = (total[id] or 0) + amount end
    local add = missing(total)
    local before = add and reserved(since)
    local when = now
    for id, amount in pairs(add or {}) do
      local spec = specs[id]
      local wanted = math.min(spec.limit, amount + (before[id] or 0))
      when = math.max(when, kinds[spec.kind].free_at(q.w[id].w, spec, wanted, now))
      if amount + (before[id] or 0) > left(spec) then when = math.max(when, now + 1) end
    end
    if add and (at > most or when > now or #unserved > 0) then
      if grants.next < 0 then grants.next = at > most and SECOND / 4 or when - now end
      if #unserved < REMEMBERED then unserved[#unserved + 1] = {at = since, a = add} end
    elseif add then
      grant(add)
    end
    if #unserved > 0 then total = {} for id, amount in pairs(me.out) do total[id] = amount end end
  end
  me.needs = #unserved > 0 and unserved or nil
  return total
end

-- a little ahead: at most a fair share of what nobody waits for, at least one request where there is one
local function serve_ahead(total, active)
  if call.x == 0 or me.needs or q.gate == 'cooling' then return end
  local before, fair, most = reserved(nil), call.x, call.x
  for id, amount in pairs(call.a) do
    if specs[id] and amount > 0 then
      local free = left(specs[id]) - (before[id] or 0)
      local held = me.out[id] - (total[id] or 0)
      fair = math.min(fair, math.floor((free / active + held) / amount))
      most = math.min(most, math.floor((free + held) / amount))
    end
  end
  local count = math.max(fair, math.min(1, most))
  if count <= 0 then return end
  local target = {}
  for id, amount in pairs(call.a) do target[id] = (total[id] or 0) + amount * count end
  local add = missing(target)
  if add then grant(add) end
end

if not is_late then
  q.m[call.m] = me
  settle()
  take_in_outage()
  learn()
  local active = look_after()
  local closed = gate(active)
  if closed then
    grants.next = closed
    me.needs = nil
    give_all_back()  -- or whoever still holds something would send a probe of its own
  else
    serve_ahead(serve_waiting(), active)
  end
  me.charged, me.part, me.lent = nil, nil, nil
  grants.n = active
  if call.bye == 1 then
    give_all_back()
    q.m[call.m] = nil
  end
  q.last = now
  redis.call('SET', KEYS[2], cmsgpack.pack(q), 'PX', KEPT)
  redis.call('PEXPIRE', KEYS[1], KEPT)
end

local windows = {}
for _, spec in ipairs(order) do
  local w = q.w[spec.id].w
  windows[spec.id] = {me.out[spec.id] or 0, left(spec), math.ceil(kinds[spec.kind].whole_at(w, spec, now) - now)}
end
local state = q.gate
if state == 'cooling' and now >= q.cool then state = q.probe == call.m and 'mine' or 'probing' end
local cool = q.gate == 'cooling' and math.max(0, math.ceil(q.cool - now)) or 0
return cjson.encode({
  e = epoch, n = grants.n or 1, w = windows, x = math.ceil(grants.next), c = cool, g = state, h = q.h,
  late = is_late and 1 or 0
})
"""


def script(clock: str) -> str:
    """The whole script. `clock`: the Lua expression of the time, seconds and microseconds, as TIME returns them."""
    return LUA_WINDOWS + _MEMBERS.replace("@CLOCK@", clock) + LUA_OUTAGE + _GRANTS


LUA_LEDGER = script("redis.call('TIME')")
