"""A check as JUnit: a suite a scenario, a case a cell; new is a failure, undecided is skipped."""

from itertools import groupby
from xml.etree import ElementTree as ET

from emu.reports.check import CheckReport
from emu.running.check import Change

FORMAT = "emu-junit-1"
"""A property of each suite."""


def junit(report: CheckReport) -> bytes:
    """Return the XML."""
    root = ET.Element("testsuites", name=f"emu check {report.check.revision} --against {report.check.base}")
    for scenario, cells in groupby(report.check.compared, key=lambda one: one.cell.scenario):
        suite = ET.SubElement(root, "testsuite", name=scenario)
        ET.SubElement(ET.SubElement(suite, "properties"), "property", name="format", value=FORMAT)
        for compared in cells:
            case = ET.SubElement(suite, "testcase", classname=scenario, name=str(compared.cell))
            for one in compared.differences():
                if one.is_bad:
                    ET.SubElement(case, "failure", message=one.change.value).text = report.sentence(one)
                elif one.change is Change.UNDECIDED:
                    ET.SubElement(case, "skipped", message=report.sentence(one))
        cases = suite.findall("testcase")
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
        suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"
