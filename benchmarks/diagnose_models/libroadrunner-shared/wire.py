"""A gene that is read by chance (Gillespie, libRoadRunner). The compiled model is kept, as compiling is dear;
a treatment changes a rate of it, and nothing puts it back.
"""

import json

import roadrunner

MODEL = """<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level2/version4" level="2" version="4">
  <model id="gene">
    <listOfCompartments><compartment id="cell" size="1"/></listOfCompartments>
    <listOfSpecies>
      <species id="mrna" compartment="cell" initialAmount="0" hasOnlySubstanceUnits="true"/>
    </listOfSpecies>
    <listOfParameters>
      <parameter id="make" value="10" constant="false"/><parameter id="decay" value="0.5" constant="false"/>
    </listOfParameters>
    <listOfReactions>
      <reaction id="making" reversible="false">
        <listOfProducts><speciesReference species="mrna"/></listOfProducts>
        <kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML"><ci>make</ci></math></kineticLaw>
      </reaction>
      <reaction id="decaying" reversible="false">
        <listOfReactants><speciesReference species="mrna"/></listOfReactants>
        <kineticLaw>
          <math xmlns="http://www.w3.org/1998/Math/MathML"><apply><times/><ci>decay</ci><ci>mrna</ci></apply></math>
        </kineticLaw>
      </reaction>
    </listOfReactions>
  </model>
</sbml>"""
RUNNER = roadrunner.RoadRunner(MODEL)


def wire(entrypoint, params, seed):
    RUNNER.reset()
    RUNNER.setIntegrator("gillespie")
    RUNNER.getIntegrator().setValue("seed", seed)
    RUNNER["make"] = params["make"]
    if "decay" in params:
        RUNNER["decay"] = params["decay"]
    rows = RUNNER.simulate(0, 20, 21)
    return {"course": json.dumps([float(row[1]) for row in rows]).encode()}
