-- SPDX-License-Identifier: GPL-2.0-or-later
-- After a transaction that touched kernels, modules or updates: leave a note, for which kmend-reconcile.path starts the
-- agent. It runs in rpm's own Lua, so it works in an empty root and starts no process; it never fails.
-- No per cent sign here: it stands in a spec.

local function exists(path)
    return posix.stat(path, "type") ~= nil
end

-- Whether this root directory is that of process 1; without /proc nobody knows, and a chroot is likely.
local function is_machine()
    for _, field in ipairs({"dev", "ino"}) do
        local outer = posix.stat("/proc/1/root/.", field)
        if outer == nil or outer ~= posix.stat("/", field) then
            return false
        end
    end
    return true
end

-- Whether the kernel is somebody else's to look after.
local function is_container()
    for _, mark in ipairs({"/.dockerenv", "/run/.containerenv", "/run/systemd/container"}) do
        if exists(mark) then
            return true
        end
    end
    local file = io.open("/proc/1/environ", "rb")
    local text = file and file:read("*a") or ""
    if file then
        file:close()
    end
    return string.find("\0" .. text, "\0container=", 1, true) ~= nil
end

local function write(path, text)
    local file = io.open(path, "w")
    if file then
        file:write(text)
        file:close()
    end
end

pcall(function()
    -- The agent's own dnf; an offline update, which reboots into the new kernel when it is done.
    if os.getenv("KMEND_AGENT") == "1" or exists("/system-update") then
        return
    end
    if not exists("/run/systemd/system") or not is_machine() or is_container() then
        return
    end
    posix.mkdir("/run/kmend")
    posix.mkdir("/run/kmend/queue")
    -- Before the note: what changes from here on is newer than the stamp and makes another note.
    write("/run/kmend/stamp", "")
    write("/run/kmend/queue/rpm", "rpm\n")
end)
