"""Attaching devices to domains: the calls for scenarios, and the steps that the drivers of all vendors share.

Not modelled: pcidevs_lock. Xen's callers hold it around all of this except the freeing of a domain id. Let one CPU do
the work, or order the CPUs with signals.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Access, Kind, Operation
from emu.errors import ScenarioError
from emu.hypervisor.domain import Domain, check_types
from emu.hypervisor.driver import Driver


class HandOver(Operation[None]):
    """Assign a device to the domain whose driver may program it from now on, or to none.

    (Xen: vtd/iommu.c, in reassign_device_ownership)

    Args:
        is_failed: the call will report a failure, so it promises nothing.
    """

    __slots__ = ("device", "domain", "is_failed")

    event = "device.hand_over"

    def __init__(self, device: Device, domain: int | None, *, is_failed: bool = False) -> None:
        self.device = device
        self.domain = domain
        self.is_failed = is_failed

    def accesses(self) -> Iterable[Access]:
        yield self.device.driver_access(Kind.WRITE)
        for judge in () if self.is_failed else self.device.judges:
            yield from judge.reads(self.device)

    def perform(self, step: int) -> None:
        self.device.hand_over(self.domain)
        for judge in () if self.is_failed else self.device.judges:
            judge.handed_over(self.device, step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"bdf": self.device.bdf, "domain": self.domain}


class FindDevice(Operation[bool]):
    """Return whether a domain has one of several devices (Xen: pci.c, pci_get_pdev_by_domain)."""

    __slots__ = ("devices", "domain", "found")

    event = "device.find"

    def __init__(self, domain: Domain, devices: Iterable[Device]) -> None:
        self.domain = domain
        self.devices = tuple(devices)
        self.found = False

    def accesses(self) -> Iterable[Access]:
        return (device.driver_access(Kind.READ) for device in self.devices)

    def perform(self, step: int) -> bool:
        self.found = any(device.assigned_to == self.domain.number for device in self.devices)
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"domain": self.domain.number, "found": self.found}


def check_device(device: object) -> None:
    """Refuse an argument that is not a device.

    Raises:
        ScenarioError: if it is not one.
    """
    if not isinstance(device, Device):
        raise ScenarioError(f"{device!r} is no device: write m.devices[{str(device)!r}]")


@attrs.frozen
class Assignment:
    """Attaches devices to domains, and detaches them."""

    driver: Driver

    async def attach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Let a domain's tables translate for a device.

        Returns:
            0; or -EINVAL if the tables of another domain translate for it.
        """
        check_types(cpu, domain)
        check_device(device)
        return await self.driver.attach(cpu, domain, device)

    async def detach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Detach a device from its domain: then no tables translate for it.

        Returns:
            0, or a negative errno: -ENODEV if the domain does not have the device.
        """
        check_types(cpu, domain)
        check_device(device)
        return await self.driver.detach(cpu, domain, device)

    async def reassign(self, cpu: Cpu, source: Domain, target: Domain, device: Device) -> int:
        """Move a device from one domain to another; return 0 or a negative errno (Xen: pci.c, assign_device)."""
        check_types(cpu, source)
        check_types(domain=target)
        check_device(device)
        return await self.driver.reassign(cpu, source, target, device)
