"""A stack on this machine: work runs in threads, services are started by configured commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sheetanchor.components.base import Component
from sheetanchor.errors import SheetanchorError
from sheetanchor.process import ProcessRunner
from sheetanchor.stacks.base import Discovered, Health, Inventory, Result, Work

SERVICE_COMMAND_TIMEOUT = 300.0
"""Seconds a configured start or stop command may take; PostgreSQL's own shutdown default is 60."""


@dataclass(frozen=True)
class Service:
    """How a component's service is stopped and started; None where it cannot be."""

    stop: tuple[str, ...] | None
    start: tuple[str, ...] | None


class LocalStack:
    """Driver `local`."""

    def __init__(
        self,
        components: Mapping[str, Component],
        services: Mapping[str, Service],
        processes: ProcessRunner,
        *,
        parallel: int = 2,
    ) -> None:
        self._components = components
        self._services = services
        self._processes = processes
        self._parallel = parallel

    def discover(self) -> Inventory:
        """Return the configured components: on one machine, what is configured is what there is."""
        return Inventory(
            tuple(
                Discovered(name=component.name, type=component.kind, place="local")
                for component in self._components.values()
            )
        )

    def run(
        self,
        works: Sequence[Work],
        execute: Callable[[Work], Result],
        *,
        stop: Callable[[], None] = lambda: None,
    ) -> list[Result | SheetanchorError]:
        """Run the works in threads, `parallel` at a time."""

        def attempt(work: Work) -> Result | SheetanchorError:
            try:
                return execute(work)
            except SheetanchorError as error:
                return error

        with ThreadPoolExecutor(self._parallel, thread_name_prefix="work") as pool:
            futures = [pool.submit(attempt, work) for work in works]
            try:
                return [future.result() for future in futures]
            except BaseException:
                stop()
                for future in futures:
                    future.cancel()
                raise

    def stop(self, component: str) -> None:
        """Run the component's stop command, if it has one."""
        service = self._services.get(component)
        if service and service.stop:
            self._processes.run(service.stop, timeout=SERVICE_COMMAND_TIMEOUT)

    def start(self, component: str) -> None:
        """Run the component's start command, if it has one."""
        service = self._services.get(component)
        if service and service.start:
            self._processes.run(service.start, timeout=SERVICE_COMMAND_TIMEOUT)

    def health(self) -> list[Health]:
        """Ask every component whether its live thing answers."""
        return [self._health(component) for component in self._components.values()]

    def _health(self, component: Component) -> Health:
        try:
            facts = component.check()
        except SheetanchorError as error:
            return Health(component.name, healthy=False, detail=error.message)
        return Health(component.name, healthy=True, detail=", ".join(facts))
