"""Part of the ledger's script: what was spent where nobody could count it, on static shares.

Who was out of reach says so when it is back. After an outage of less than a second its own share is taken to be spent,
and that of those who have not been heard since it began; these have it again when they turn out to have been in reach
all the time, so that one late reply costs the others nothing. After a longer one the shares of all are, once, unless
others came through meanwhile. Refuses to know windows (lua_windows.py) and grants (lua_ledger.py).
"""

LUA_OUTAGE = r"""
-- what a sidecar may have spent on its static share; twice when two tell of the same time it is counted once
local function assume(each, outage, began)
  local before = each.charged and each.charged > began and each.lent or {}
  local lent = each.lent or {}
  for id, amount in pairs(outage.w) do
    local more = math.ceil(amount / outage.n) - (before[id] or 0)
    if specs[id] and more > 0 then
      spend(specs[id], more)
      lent[id] = (lent[id] or 0) + more
    end
  end
  each.lent, each.charged = lent, now
end

local function take_in_outage()
  local outage = call.o
  if not outage then
    -- it was in reach all along: what was assumed of it is had again
    for id, amount in pairs(me.lent or {}) do
      if specs[id] then refund(specs[id], amount, me.charged) end
    end
    return
  end
  local began = now - outage.d
  if outage.d < SECOND then
    -- a late reply or two: the share of the caller, and of those who have not been heard since
    assume(me, outage, began)
    for _, each in pairs(q.m) do
      if each ~= me and each.seen < began and now - each.seen <= SEEN then assume(each, outage, began) end
    end
    return
  end
  local was_charged = me.charged and me.charged > began
  if q.assumed_at and q.assumed_at > began or q.last < began + SECOND then
    -- nobody came through: the shares of all are spent, once
    local before = q.assumed_at and q.assumed_at > began and q.assumed or {}
    q.assumed, q.assumed_at = q.assumed_at and q.assumed_at > began and q.assumed or {}, now
    for id, amount in pairs(outage.w) do
      if specs[id] then spend(specs[id], math.ceil(amount - (before[id] or 0))) end
      q.assumed[id] = math.max(amount, before[id] or 0)
    end
  elseif not was_charged then
    for id, amount in pairs(outage.w) do
      if specs[id] then spend(specs[id], math.ceil(amount / outage.n)) end
    end
  end
end

-- who calls no more is forgotten when its connection is gone; else it may live on its static share, out of reach
local function look_after()
  local members = 0
  for _ in pairs(q.m) do members = members + 1 end
  local active = 0
  for name, each in pairs(q.m) do
    if name == call.m or now - each.seen <= SEEN then
      active = active + 1
    elseif redis.call('PUBSUB', 'NUMSUB', call.p .. name)[2] == 0 then
      q.m[name] = nil
    else
      local since = math.max(each.charged or 0, each.seen)
      each.part = each.part or {}
      for _, spec in ipairs(order) do
        local amount = 0.9 * spec.limit / members * (now - since) / spec.span + (each.part[spec.id] or 0)
        spend(spec, math.floor(amount))
        each.part[spec.id] = amount - math.floor(amount)
      end
      each.charged, each.needs = now, nil
    end
  end
  return active
end
"""
